"""The native API on a Unix socket: one JSON object a line, several calls in flight on a connection.

Each reply line carries the `id` of its call, if it had one. Only the user who runs the service may connect; without a
key a connection is the owner's, and a `key` in a call makes it, from then on, that of the key's app.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import select
import sys
from socket import socket
from typing import Any

from pantry.core.errors import BusyError, ForbiddenError, PantryError, TooLargeError, UsageError
from pantry.core.faults import record_fault
from pantry.core.foreign_json import parse_json
from pantry.core.permissions import NOBODY, OWNER, Caller
from pantry.service.context import ServiceContext
from pantry.service.guard import check_peer
from pantry.service.native.calls import Call, Value, failure, outcome, parse_call, replies, success

log = logging.getLogger("pantry.service")
HUNG_UP_EVERY = 0.1  # seconds between two looks at whether a program that sends no more is still there
MAX_IN_FLIGHT = 64  # calls of one connection that are being answered


class LeftError(ConnectionError):
    """The program at the other end is gone, or reads nothing; not a failure of the call itself."""


class CallServer:
    """Accepts connections of programs and answers their calls."""

    def __init__(self, service: ServiceContext) -> None:
        self.service = service
        self._connections: set[asyncio.Task[None]] = set()

    async def listen(self, sock: socket, backlog: int) -> asyncio.AbstractServer:
        """Answer on a bound socket until `close`."""
        limit = self.service.gateway.settings.max_line
        return await asyncio.start_unix_server(self._accept, sock=sock, limit=limit, backlog=backlog)

    async def close(self) -> None:
        """End all connections and the calls on them."""
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - runs as a task
        connection = _Connection(self.service, reader, writer)
        self._connections.add(task)
        try:
            if len(self._connections) > self.service.gateway.settings.max_connections:
                raise BusyError("Too many connections are open (setting max_connections).")
            check_peer(writer.get_extra_info("socket"))
            await connection.serve()
        except (BusyError, ForbiddenError, TooLargeError, UsageError) as error:
            with contextlib.suppress(LeftError):
                await connection.send(failure(error))
        except (OSError, asyncio.CancelledError):
            log.debug("a connection of the call socket ended")
        finally:
            self._connections.discard(task)
            await connection.end()


class _Connection:
    """One program's connection."""

    def __init__(self, service: ServiceContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._service, self._settings = service, service.gateway.settings
        self._reader, self._writer = reader, writer
        self._key: str | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer lines until the program leaves. Raises TooLargeError, UsageError for a line that never ends."""
        while (line := await self._line()) is not None:
            if line.strip():
                await self._answer(line)
        while self._calls and not self._hung_up():  # it will send no more calls, and may still read its answers
            await asyncio.wait(self._calls, timeout=HUNG_UP_EVERY)

    def _hung_up(self) -> bool:
        """Whether the program closed the whole connection, and not only its sending side (Linux: POLLHUP)."""
        if self._writer.is_closing() or sys.platform != "linux":
            return True
        poll = select.poll()
        poll.register(self._writer.get_extra_info("socket").fileno(), 0)
        return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))

    async def end(self) -> None:
        """Cancel what is in flight and close."""
        for task in self._calls:
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()

    async def send(self, reply: Value) -> None:
        """Send one line. Raises LeftError when the program left or does not read."""
        line = json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        try:
            self._writer.write(line)
        except RuntimeError:  # what uvloop raises for a connection that broke a moment ago
            raise LeftError("the connection is closed") from None
        try:
            async with asyncio.timeout(self._settings.write_timeout):
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
            raise LeftError("it does not read") from None
        except OSError as error:
            raise LeftError(str(error)) from None

    async def _line(self) -> bytes | None:
        """The next line, None at the end. A line may take its time to begin, not to end."""
        try:
            begin = await self._reader.readexactly(1)
            if begin == b"\n":
                return b"\n"
            async with asyncio.timeout(self._settings.body_timeout):
                return begin + await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise TooLargeError(f"A line is over {self._settings.max_line} bytes (setting max_line).") from None
        except TimeoutError:
            raise UsageError(f"A line did not end within {self._settings.body_timeout:.0f} seconds.") from None

    async def _answer(self, line: bytes) -> None:
        """Answer at once what needs no waiting; the rest in a task of its own."""
        call: Call | None = None
        try:
            body = parse_json(line, "The line")
            call = parse_call(body)
            result = outcome(self._service, self._caller(call), call)
        except PantryError as error:
            await self.send(_with_id(failure(error), call.id if call else _id_of(line)))
            return
        except Exception as error:
            await self._admit_fault(call, error)
            return
        if isinstance(result, dict):
            await self.send(_with_id(success(result), call.id))
            return
        if len(self._calls) >= MAX_IN_FLIGHT:
            _discard(result)
            full = BusyError(f"{MAX_IN_FLIGHT} calls are in flight on this connection.", hint="Wait for one to end.")
            await self.send(_with_id(failure(full), call.id))
            return
        task = asyncio.create_task(self._run(call, result))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def _run(self, call: Call, result: Any) -> None:
        try:
            async with contextlib.aclosing(replies(result)) as answers:
                async for reply in answers:
                    await self.send(_with_id(reply, call.id))
        except LeftError:
            log.debug("a program left before its answer")
        except Exception as error:
            with contextlib.suppress(LeftError):
                await self._admit_fault(call, error)

    async def _admit_fault(self, call: Call | None, error: Exception) -> None:
        """Log an exception and tell the program that it was not its doing."""
        doing = f"answering {call.function.name if call else 'a line'}"
        log.error("a fault while %s", doing, exc_info=error)
        fault = failure(record_fault(self._service.gateway.paths.fault_log, error, doing))
        await self.send(_with_id(fault, call.id if call else None))

    def _caller(self, call: Call) -> Caller:
        """Who calls now: looked up each time, so that a revoked key or permission ends at once."""
        if call.function.name in ("handshake", "register_app") and call.key is None:
            return OWNER if self._key is None else NOBODY
        if call.key is not None:
            caller = self._service.gateway.recognise(call.key)
            self._key = call.key
            return caller
        return OWNER if self._key is None else self._service.gateway.recognise(self._key)


def _with_id(reply: Value, id: Any) -> Value:
    return {"id": id, **reply} if id is not None else reply


def _id_of(line: bytes) -> Any:
    """The id of a call that does not parse as one, so that its sender can tell which it was; None if there is none."""
    with contextlib.suppress(PantryError):
        body = parse_json(line, "The line")
        id = body.get("id") if isinstance(body, dict) else None
        return id if isinstance(id, int | float) or (isinstance(id, str) and len(id) <= 200) else None
    return None


def _discard(result: Any) -> None:
    """Drop a call that was not started, without a warning about it."""
    if hasattr(result, "close"):
        result.close()
