"""A worker: one engine process that holds one model and listens on a Unix socket in a private folder."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from typing import Any, BinaryIO

import aiohttp
import psutil

from pantry.core.errors import EngineError
from pantry.core.files import storage_errors
from pantry.engines.processes.guard import MEMORY_VARIABLE, PARENT_VARIABLE

STOP_GRACE = 3.0  # seconds between asking a worker to end and killing it
POLL = 0.01  # seconds between two looks at whether a worker is ready, growing to ten times that
STALL = 180  # seconds without a byte after which a worker counts as stuck; it tells its progress batch by batch
LOG_TAIL = 64_000  # bytes of a worker's log that are searched for the reason of a failure

_DEATHS = {
    signal.SIGKILL: "it was killed, perhaps because the machine ran out of memory",
    signal.SIGABRT: "the engine gave up on it; the file may be damaged or of an unsupported kind",
    signal.SIGSEGV: "the engine crashed; the file may be damaged",
    signal.SIGBUS: "its file changed or became unreadable while it was in use",
    signal.SIGILL: "the engine is not built for this processor",
}


class Worker:
    """A running engine process. Make one with `start`; its process may die at any time (`alive`)."""

    def __init__(self, name: str, process: Process, socket: Path, log: Path) -> None:
        self.name, self.process, self.socket, self.log = name, process, socket, log
        self.started_at = time.time()
        self._broken = False
        self._session = aiohttp.ClientSession(
            # llama.cpp's listener closes a connection after a stream; a request on a reused one would break.
            connector=aiohttp.UnixConnector(str(socket), limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=STALL),
            auto_decompress=False,
        )

    @classmethod
    async def start(
        cls, name: str, command: list[str], socket: Path, log: Path, timeout: float, memory_limit: int = 0
    ) -> Worker:
        """Start the process and wait until it answers. Raises EngineError with the engine's reason, or at the timeout.

        `memory_limit` is the most private memory in bytes the process may take; 0 sets none. A caller that is
        cancelled meanwhile leaves no process behind.
        """
        environment = os.environ | {
            PARENT_VARIABLE: str(os.getpid()),
            MEMORY_VARIABLE: str(memory_limit),
            "PYTHONUNBUFFERED": "1",
        }
        with _fresh_log(log, socket) as log_file:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=PIPE,
                stdout=DEVNULL,
                stderr=log_file,
                env=environment,
                cwd=socket.parent,
                start_new_session=True,
            )
        worker = cls(name, process, socket, log)
        try:
            async with asyncio.timeout(timeout):
                await worker._wait_until_ready()
        except TimeoutError:
            await worker.stop()
            raise EngineError(
                f"{name} did not load within {timeout:.0f} seconds.",
                hint=f"A larger load_timeout may help; the engine's log is {log}.",
            ) from None
        except BaseException:
            await worker.stop()
            raise
        return worker

    @property
    def alive(self) -> bool:
        """Whether the process runs and has answered when it was last asked."""
        return self.process.returncode is None and not self._broken

    @property
    def pid(self) -> int:
        return self.process.pid

    def memory(self) -> int:
        """Resident bytes of the process; 0 when it is gone."""
        with contextlib.suppress(psutil.Error):
            return int(psutil.Process(self.pid).memory_info().rss)
        return 0

    async def post(self, path: str, body: dict[str, Any] | bytes) -> aiohttp.ClientResponse:
        """Send a request and return the response with its body unread. Raises EngineError when the worker is gone."""
        try:
            if isinstance(body, bytes):
                return await self._session.post(
                    f"http://worker{path}", data=body, headers={"Content-Type": "application/json"}
                )
            return await self._session.post(f"http://worker{path}", json=body)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._broken = True
            raise EngineError(
                f"{self.name} did not answer: {await self.last_words()}.", hint="Ask again: it is loaded anew."
            ) from error

    def give_up(self) -> None:
        """Note that the process is stuck: the next request starts another one in its place."""
        self._broken = True

    async def last_words(self) -> str:
        """Why the process ended, as far as its exit status and log tell."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self.process.wait()
        code = self.process.returncode
        if code is None:
            return f"nothing came for {STALL} seconds" if self._broken else "the connection broke"
        if code < 0 and -code in _DEATHS:
            return _DEATHS[signal.Signals(-code)]
        return _reason_in(self.log) or f"its process ended with status {code}"

    async def stop(self) -> None:
        """End the process, by force after a grace period, and remove its socket."""
        await self._session.close()
        if self.process.stdin:
            self.process.stdin.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.terminate()
            try:
                async with asyncio.timeout(STOP_GRACE):
                    await self.process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    self.process.kill()
                await self.process.wait()
        self.socket.unlink(missing_ok=True)

    async def _wait_until_ready(self) -> None:
        pause = POLL
        while self.process.returncode is None:
            if self.socket.exists():
                with contextlib.suppress(aiohttp.ClientError, OSError):
                    async with self._session.get("http://worker/health") as response:
                        if response.status == 200:
                            return
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, POLL * 10)
        raise EngineError(
            f"{self.name} could not be loaded: {await self.last_words()}.",
            hint=f"The engine's log is {self.log}.",
        )


def _fresh_log(log: Path, socket: Path) -> BinaryIO:
    """An empty log only its owner can read. An earlier process's socket is removed: it would make bind fail."""
    socket.unlink(missing_ok=True)
    with storage_errors(f"Writing the log {log}"):
        log.parent.mkdir(parents=True, exist_ok=True)
        return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")


def _reason_in(log: Path) -> str | None:
    """The engine's own words for why loading failed: the first error in its log that says more than 'failed'."""
    with contextlib.suppress(OSError):
        lines = log.read_bytes()[-LOG_TAIL:].decode("utf-8", "replace").splitlines()
        telling = [line for line in lines if "error" in line.lower() or "fail" in line.lower()]
        for line in telling or lines[-1:]:
            text = line.rsplit("error loading model: ", 1)[-1].strip(" .\r")
            return text.removeprefix("load failed: ")[-300:] or None
    return None
