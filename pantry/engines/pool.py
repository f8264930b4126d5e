"""The pool: loaded models inside a memory budget, a bounded queue before each, workers started again after a crash."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import psutil

from pantry.core.errors import (
    BadFileError,
    BusyError,
    ConflictError,
    EngineError,
    MemoryBudgetError,
    PantryError,
)
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.core.units import format_bytes
from pantry.engines.adapter import ENGINES, EngineAdapter, LoadOptions, ModelFiles, WorkerNeed
from pantry.engines.choose import choose_engine, load_options
from pantry.engines.view import close_files, open_files, remove_leftovers
from pantry.engines.worker import Worker
from pantry.formats.parts import PlacedPart
from pantry.store.models import InstalledModel, Store

RETRY_AFTER = 3.0  # seconds in which a model that could not be loaded is not tried again
SPARE_MEMORY = 1_000_000_000  # bytes a worker may take beyond twice its estimate
REAP_EVERY = 1.0  # seconds between two looks for models that were idle too long


@dataclass
class LoadedModel:
    """A model the pool knows: loaded, loading, or with its worker gone until the next request."""

    model: InstalledModel
    engine: str
    options: LoadOptions
    slots: asyncio.Semaphore
    need: WorkerNeed | None = None
    files: ModelFiles | None = None
    """What its worker has open."""
    pinned: bool = False
    reserved: bool = False
    worker: Worker | None = None
    waiting: int = 0
    active: int = 0
    last_used: float = field(default_factory=time.monotonic)
    loading: asyncio.Task[Worker] | None = None
    stopping: asyncio.Task[None] | None = None
    failure: PantryError | None = None
    """Why the last load failed, and when."""
    failed_at: float = 0.0
    admitted_under: object = None
    """The state of the rules under which it was admitted."""

    @property
    def idle(self) -> bool:
        return not self.active and not self.waiting and not self.is_loading

    @property
    def is_loading(self) -> bool:
        return self.loading is not None and not self.loading.done()

    @property
    def running(self) -> bool:
        return self.worker is not None and self.worker.alive


class Pool:
    """Keeps models loaded. All methods run on one event loop."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        paths: Paths,
        available_memory: Callable[[], int] = lambda: int(psutil.virtual_memory().available),
        admit: Callable[[InstalledModel, Sequence[PlacedPart]], None] = lambda model, parts: None,
        rules: Callable[[], object] = lambda: None,
    ) -> None:
        """`admit` is asked in a thread before every load, with the verified files; what it raises stops the load.

        It is asked again before an answer of a loaded model when `rules`, what it goes by, is not what it was.
        """
        self._admit, self._rules = admit, rules
        self._store, self._settings, self._paths = store, settings, paths
        remove_leftovers(paths.run)
        self._available_memory = available_memory
        self._entries: dict[ModelName, LoadedModel] = {}
        self._retired: list[LoadedModel] = []
        self._reserving = asyncio.Lock()
        self._reaper: asyncio.Task[None] | None = None
        self.budget = settings.memory_budget or int(psutil.virtual_memory().total * 0.75)
        self.loads = 0
        self.crashes = 0

    def loaded(self) -> list[LoadedModel]:
        """The models with a running worker, by name."""
        return [entry for entry in self.entries() if entry.running]

    def entries(self) -> list[LoadedModel]:
        """The models that are loaded or being loaded, by name."""
        known = [self._entries[name] for name in sorted(self._entries)]
        return [entry for entry in [*known, *self._retired] if entry.running or entry.is_loading]

    def engine_of(self, name: ModelName) -> str:
        """The engine that runs a model; empty when none does."""
        entry = self._entries.get(name)
        return entry.engine if entry is not None else ""

    def queued(self) -> int:
        """Requests that wait for a slot, over all models."""
        return sum(entry.waiting for entry in self._entries.values())

    @contextlib.asynccontextmanager
    async def worker_for(self, model: InstalledModel) -> AsyncIterator[Worker]:
        """A worker that holds `model`, for one answer; loads it when needed and waits for a free slot.

        Raises BusyError when the queue is full, MemoryBudgetError, VerificationError or EngineError when the model
        cannot be loaded.
        """
        entry = self._entry(model)
        if entry.slots.locked() and entry.waiting >= self._settings.queue:
            raise BusyError(f"{entry.waiting} requests wait for {model.name} already.", hint="Try again in a moment.")
        entry.waiting += 1
        try:
            await entry.slots.acquire()
        finally:
            entry.waiting -= 1
        entry.active += 1
        try:
            yield await self._running_worker(entry)
        finally:
            entry.active -= 1
            entry.last_used = time.monotonic()
            entry.slots.release()

    async def load(self, model: InstalledModel, *, pin: bool = False) -> LoadedModel:
        """Load a model now, or keep the loaded one; a pinned model is never unloaded to make room or for idleness."""
        entry = self._entry(model)
        await self._running_worker(entry)
        entry.pinned = pin or entry.pinned
        entry.last_used = time.monotonic()
        return entry

    async def unload(self, name: ModelName) -> bool:
        """Unload a model, or stop loading it; False when it was neither. Raises ConflictError while it answers."""
        entry = self._entries.get(name)
        if entry is None or not (entry.running or entry.is_loading):
            return False
        if entry.loading and not entry.loading.done():
            entry.loading.cancel()
            await asyncio.gather(entry.loading, return_exceptions=True)
        elif not entry.idle:
            raise ConflictError(f"{name} is writing an answer.", hint="Try again when it is done.")
        await self._stop(entry)
        return True

    async def close(self) -> None:
        """Stop every worker."""
        if self._reaper:
            self._reaper.cancel()
        known = [*self._entries.values(), *self._retired]
        loading = [entry.loading for entry in known if entry.loading and not entry.loading.done()]
        for task in loading:
            task.cancel()
        await asyncio.gather(*loading, return_exceptions=True)
        await asyncio.gather(*(self._stop(entry) for entry in known))

    def _entry(self, model: InstalledModel) -> LoadedModel:
        if self._reaper is None:
            self._reaper = asyncio.create_task(self._reap())
        entry = self._entries.get(model.name)
        if entry is not None and entry.model.digest != model.digest:  # the name stands for another file now
            self._retired.append(self._entries.pop(model.name))
            entry = None
        if entry is None:
            options = load_options(model, self._settings)
            entry = LoadedModel(
                model,
                choose_engine(model, self._settings, self._store.database),
                options,
                asyncio.Semaphore(options.parallel),
            )
            self._entries[model.name] = entry
        return entry

    async def _running_worker(self, entry: LoadedModel) -> Worker:
        """The entry's worker, loaded first when there is none. A caller that gives up does not stop the load."""
        if entry.worker and entry.worker.alive and entry.admitted_under == self._rules():
            return entry.worker
        if entry.worker and entry.worker.alive:
            await self._admit_again(entry)
            return await self._running_worker(entry)
        if entry.loading is None or entry.loading.done():
            if entry.failure and time.monotonic() - entry.failed_at < RETRY_AFTER:
                raise entry.failure
            entry.loading = asyncio.create_task(self._load(entry))
            entry.loading.add_done_callback(lambda task: task.cancelled() or task.exception())
        loading = entry.loading
        try:
            return await asyncio.shield(loading)
        except asyncio.CancelledError:
            if loading.cancelled() and not _is_cancelled():
                raise ConflictError(f"{entry.model.name} was unloaded while it was being loaded.") from None
            raise

    async def _admit_again(self, entry: LoadedModel) -> None:
        """Ask about a loaded model under new rules. What they refuse is unloaded, once nobody else has an answer."""
        try:
            await asyncio.to_thread(self._admitted, entry)
        except PantryError:
            if entry.active <= 1:
                await self._stop(entry)
            raise

    async def _load(self, entry: LoadedModel) -> Worker:
        if entry.worker:
            self.crashes += 1
            await self._stop(entry)
        elif entry.stopping:
            await entry.stopping
        try:
            parts = await asyncio.to_thread(self._admitted, entry)
            entry.files = open_files(self._paths.run, entry.model, parts)
            need = await asyncio.to_thread(_adapter(entry).need, entry.files, entry.options)
            async with self._reserving:
                await self._make_room(entry, need)
                entry.need, entry.reserved = need, True
            try:
                entry.worker = await self._start(entry, entry.files, need)
            finally:
                entry.reserved = False
        except (EngineError, BadFileError) as error:
            entry.failure, entry.failed_at = error, time.monotonic()
            raise
        finally:
            if entry.worker is None:
                self._close_files(entry)
        entry.failure, entry.last_used = None, time.monotonic()
        self.loads += 1
        return entry.worker

    def _admitted(self, entry: LoadedModel) -> tuple[PlacedPart, ...]:
        """The model's files, their digests checked, that may be loaded. Raises what `admit` raises."""
        rules = self._rules()  # before it is asked: they may change meanwhile
        with Store.open(self._paths) as store:  # SQLite connections belong to their thread
            parts = store.verified_parts(entry.model)
        self._admit(entry.model, parts)
        entry.admitted_under = rules
        return parts

    async def _start(self, entry: LoadedModel, files: ModelFiles, need: WorkerNeed) -> Worker:
        model = entry.model
        socket = self._paths.run / f"w-{secrets.token_hex(6)}.sock"  # never that of a worker that is still ending
        log = self._paths.logs / f"{model.name.name}_{model.name.tag}.log"
        command = _adapter(entry).command(files, entry.options, socket, self._settings)
        limit = 2 * need.total + SPARE_MEMORY
        return await Worker.start(str(model.name), command, socket, log, self._settings.load_timeout, limit)

    async def _make_room(self, entry: LoadedModel, worker: WorkerNeed) -> None:
        """Unload least recently used models until `entry` fits the budget and the machine."""
        need = worker.total
        if need > self.budget:
            raise _does_not_fit(entry, worker, f"the budget is {format_bytes(self.budget)}")
        while self._used(but=entry) + need > self.budget or need > self._available_memory():
            victims = [e for e in self._entries.values() if e.running and e.idle and not e.pinned and e is not entry]
            if victims:
                await self._stop(min(victims, key=lambda e: e.last_used))
                continue
            if any(not e.idle for e in self._entries.values() if e is not entry):
                raise BusyError(
                    f"{entry.model.name} needs {format_bytes(need)}, and the loaded models are all in use.",
                    hint="Try again when one of them is idle.",
                    retry_after=5,
                )
            free = format_bytes(min(self.budget - self._used(but=entry), self._available_memory()))
            raise _does_not_fit(entry, worker, f"{free} are free")

    def _used(self, but: LoadedModel) -> int:
        counted = (e for e in [*self._entries.values(), *self._retired] if (e.running or e.reserved) and e is not but)
        return sum(e.need.total for e in counted if e.need)

    async def _stop(self, entry: LoadedModel) -> None:
        worker, entry.worker, entry.pinned = entry.worker, None, False
        if worker:
            entry.stopping = asyncio.create_task(self._end(worker, entry.files))
            entry.files = None
        if entry.stopping:
            await asyncio.shield(entry.stopping)

    @staticmethod
    async def _end(worker: Worker, files: ModelFiles | None) -> None:
        await worker.stop()
        close_files(files)

    @staticmethod
    def _close_files(entry: LoadedModel) -> None:
        files, entry.files = entry.files, None
        close_files(files)

    async def _reap(self) -> None:
        """Unload models idle for longer than the keep-alive."""
        while True:
            await asyncio.sleep(REAP_EVERY)
            limit = time.monotonic() - self._settings.keep_alive
            for entry in list(self._entries.values()):
                too_long = self._settings.keep_alive and entry.last_used < limit
                if too_long and entry.running and entry.idle and not entry.pinned:
                    await self._stop(entry)
            for entry in [entry for entry in self._retired if entry.idle]:
                self._retired.remove(entry)
                await self._stop(entry)


def _adapter(entry: LoadedModel) -> EngineAdapter:
    adapter: EngineAdapter = ENGINES.get(entry.engine)
    return adapter


def _is_cancelled() -> bool:
    """Whether the running task itself was asked to stop, as opposed to something it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _does_not_fit(entry: LoadedModel, need: WorkerNeed, room: str) -> MemoryBudgetError:
    options = entry.options
    return MemoryBudgetError(
        f"{entry.model.name} needs about {format_bytes(need.total)} with {options.parallel} answers of "
        f"{options.context} tokens ({format_bytes(need.model.weights)} weights, "
        f"{format_bytes(need.model.cache)} cache); {room}.",
        hint="Set a smaller context, fewer parallel answers or a larger memory_budget (docs/settings.md).",
    )
