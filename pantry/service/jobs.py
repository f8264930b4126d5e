"""Doing what the user approved: loads, unloads and downloads, also those approved while the service was off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable

from pantry.access.usage import FLUSH_EVERY
from pantry.core.errors import PantryError
from pantry.core.faults import record_fault
from pantry.core.refs import ModelName
from pantry.service.session_store import SessionBook
from pantry.service.state import Gateway
from pantry.store.models import InstalledModel
from pantry.store.requests import AppRequest, Requests

log = logging.getLogger("pantry.service")
POLL = 0.25  # seconds between two looks for requests approved from outside
EXPIRE_EVERY = 3600.0  # seconds between two looks for sessions that are too old


class JobRunner:
    """Finds approved requests and does them, each in a task of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._requests = Requests(gateway.store.database)
        self._doing: set[str] = set()
        self._woken = asyncio.Event()
        self.progress: dict[str, tuple[int, int]] = {}
        """Bytes that came and bytes expected, by the id of a download."""

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        next_flush = next_expiry = loop.time()
        while True:
            try:
                for request in self._requests.list(state="approved"):
                    if request.id not in self._doing:
                        self._doing.add(request.id)
                        self._gateway.spawn(self._do(request))
                if loop.time() >= next_flush:
                    next_flush = loop.time() + FLUSH_EVERY
                    self._gateway.usage.flush()
                    self._gateway.speeds.flush()
                if loop.time() >= next_expiry:
                    next_expiry = loop.time() + EXPIRE_EVERY
                    SessionBook(self._gateway.store.database, self._gateway.settings).expire()
            except PantryError as error:
                log.warning("requests wait: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._woken.wait()
            self._woken.clear()

    async def _do(self, request: AppRequest) -> None:
        try:
            outcome = await self._done(request)
            self._requests.finish(request.id, "done", outcome)
        except PantryError as error:
            self._requests.finish(request.id, "failed", str(error))
        except Exception as error:
            log.exception("a fault while doing request %s", request.id)
            told = record_fault(self._gateway.paths.fault_log, error, f"doing a request to {request.kind}")
            self._requests.finish(request.id, "failed", str(told))
        finally:
            self._doing.discard(request.id)
            self.progress.pop(request.id, None)

    async def _done(self, request: AppRequest) -> str:
        gateway, name = self._gateway, str(request.details.get("model", ""))
        if request.kind == "load":
            await gateway.pool.load(await gateway.model(name))
            return "loaded"
        if request.kind == "unload":
            return "unloaded" if await gateway.pool.unload(ModelName.parse(name)) else "was not loaded"
        if request.kind == "download":

            def note(done: int, total: int) -> None:
                self.progress[request.id] = (done, total)

            await download(gateway, name, request.details.get("url"), note)
            return "downloaded"
        return "granted"


async def download(
    gateway: Gateway, name: str, url: str | None, progress: Callable[[int, int], None]
) -> InstalledModel:
    """Fetch, verify and install a model, MAX_DOWNLOADS at once; the others wait.

    `progress` is told the bytes that came and those expected.
    """
    from pantry.operations.pull import download_model  # loads all that pulling needs

    async with gateway.downloads:
        return await _beside(lambda: download_model(gateway.paths, name, url, progress))


async def _beside(work: Callable[[], InstalledModel]) -> InstalledModel:
    """The result of blocking work in a thread of its own.

    The threads of asyncio.to_thread are few, loading models needs them, and the service waits for them when it stops.
    A download is cut off instead, as by a crash, and goes on at the next start.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[InstalledModel] = loop.create_future()

    def settle(model: InstalledModel | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is not None:
            result.set_exception(error)
        elif model is not None:
            result.set_result(model)

    def run() -> None:
        model, failure = None, None
        try:
            model = work()
        except Exception as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # the service has stopped
            loop.call_soon_threadsafe(settle, model, failure)

    threading.Thread(target=run, name="download", daemon=True).start()
    return await result
