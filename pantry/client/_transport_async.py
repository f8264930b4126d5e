"""Calls over asyncio streams: one connection a call; closing it cancels the call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pantry.client._wire import CONNECT_TIMEOUT, MAX_REPLY, Address, Replies, broken_off, not_running, request_bytes


class AsyncTransport:
    """Sends calls to one address."""

    def __init__(self, address: Address, key: str | None = None) -> None:
        self.address, self.key = address, key

    async def stream(
        self, function: str, parameters: Mapping[str, Any], timeout: float | None = None
    ) -> AsyncGenerator[tuple[bool, dict[str, Any]], None]:
        """Whether it is the last, and the value, of each reply. Raises the error that a reply tells.

        `timeout` bounds the wait for each reply, in seconds. Close the generator to cancel the call.
        """
        replies = Replies(self.address)
        reader, writer = await self._open(timeout)
        try:
            writer.write(request_bytes(self.address, self.key, function, parameters))
            while not replies.closed:
                async with asyncio.timeout(timeout):
                    line = await reader.readline()
                if not line:
                    raise broken_off()
                if (taken := replies.take(line)) is not None:
                    yield taken
        except (OSError, ValueError, TimeoutError) as error:
            raise broken_off() from error
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def call(self, function: str, parameters: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """The value of a call."""
        async with contextlib.aclosing(self.stream(function, parameters, timeout)) as replies:
            async for last, value in replies:
                if last:
                    return value
        raise broken_off()

    async def _open(self, timeout: float | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(timeout or CONNECT_TIMEOUT):
                if self.address.socket is not None:
                    return await asyncio.open_unix_connection(self.address.socket, limit=MAX_REPLY)
                return await asyncio.open_connection(self.address.host, self.address.port, limit=MAX_REPLY)
        except (OSError, TimeoutError) as error:
            raise not_running() from error
