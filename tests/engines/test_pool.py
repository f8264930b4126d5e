"""The pool with echo workers: unloading, replacing, failing, and workers that are stuck."""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pantry.core.errors import BusyError, ConflictError, EngineError
from pantry.core.paths import Paths, make_private
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines import worker as worker_module
from pantry.engines.pool import Pool
from pantry.formats.memory import PROCESS
from pantry.install.installed import add_model
from pantry.store.models import InstalledModel, Store


def add(store: Store, folder: Path, name: str = "echo", **model: Any) -> InstalledModel:
    file = folder / f"{name}-{len(list(folder.iterdir()))}.echo"
    file.write_text(json.dumps(model))
    return add_model(store, file, ModelName.parse(name))


async def said(pool: Pool, model: InstalledModel) -> str:
    async with pool.worker_for(model) as worker:
        body = {"prompt": "hello", "stream": True}
        response = await worker.post("/v1/completions", body)
        lines = (await response.text()).splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    return "".join(choice["text"] for event in events for choice in event["choices"])


def with_pool(paths: Paths, use: Callable[[Pool, Store], Awaitable[None]], **settings: Any) -> None:
    async def run() -> None:
        make_private(paths.run)
        with Store.open(paths) as store:
            pool = Pool(store, Settings(**settings), paths)
            try:
                await use(pool, store)
            finally:
                await pool.close()

    asyncio.run(run())


def test_request_while_a_worker_still_ends_gets_a_worker_that_keeps_working(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        model = add(store, tmp_path)
        async with pool.worker_for(model) as worker:
            os.kill(worker.pid, signal.SIGSTOP)  # it will take the whole grace period to end
        stopping = asyncio.create_task(pool.unload(model.name))
        await asyncio.sleep(0.1)
        assert await said(pool, model) == "hello"
        await stopping
        assert await said(pool, model) == "hello"

    with_pool(paths, use)


def test_unload_stops_a_load_and_tells_who_waits(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        model = add(store, tmp_path, load="hang")
        waiting = asyncio.create_task(said(pool, model))
        await asyncio.sleep(0.3)
        assert [entry.is_loading for entry in pool.entries()] == [True]
        assert await pool.unload(model.name)
        with pytest.raises(ConflictError, match="was unloaded while"):
            await waiting
        assert pool.entries() == []

    with_pool(paths, use)


def test_name_with_new_content_is_answered_by_the_new_content(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        old = add(store, tmp_path, reply="old")
        assert await said(pool, old) == "old"
        store.remove(old.name)
        assert await said(pool, add(store, tmp_path, reply="new")) == "new"
        for _ in range(60):
            if len(pool.entries()) == 1:
                break
            await asyncio.sleep(0.05)
        assert [entry.model.digest for entry in pool.entries()] != [old.digest]

    with_pool(paths, use)


def test_model_that_failed_to_load_is_not_tried_again_at_once(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        model = add(store, tmp_path, load="fail")
        failures = []
        for _ in range(3):
            with pytest.raises(EngineError, match="says so") as caught:
                await said(pool, model)
            failures.append(caught.value)
        assert failures[0] is failures[1] is failures[2]  # told again, not met again

    with_pool(paths, use)


def test_worker_that_is_stuck_is_replaced(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_module, "STALL", 0.3)

    async def use(pool: Pool, store: Store) -> None:
        model = add(store, tmp_path)
        async with pool.worker_for(model) as worker:
            os.kill(worker.pid, signal.SIGSTOP)
        with pytest.raises(EngineError, match="nothing came"):
            await said(pool, model)
        assert await said(pool, model) == "hello"

    with_pool(paths, use)


def test_the_model_used_longest_ago_makes_room_and_a_pinned_one_stays(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        pinned, one, two, three = (add(store, tmp_path, name, reply=name) for name in ("pinned", "one", "two", "three"))
        await pool.load(pinned, pin=True)
        for model in (one, two, one):
            assert await said(pool, model) == model.name.name
        assert await said(pool, three) == "three"
        assert [entry.model.name.name for entry in pool.loaded()] == ["one", "pinned", "three"]

    with_pool(paths, use, memory_budget=int(3.5 * PROCESS))


def test_who_asks_first_gets_the_room(paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one model still ends to make room for a second, a third does not take that room."""
    monkeypatch.setattr(worker_module, "STOP_GRACE", 1.0)

    async def use(pool: Pool, store: Store) -> None:
        first, second, third = (add(store, tmp_path, name, reply=name) for name in ("first", "second", "third"))
        async with pool.worker_for(first) as worker:
            os.kill(worker.pid, signal.SIGSTOP)  # it will take the whole grace period to end
        earlier = asyncio.create_task(said(pool, second))
        while pool.loaded():
            await asyncio.sleep(0.005)
        with pytest.raises(BusyError, match="third needs"):
            await said(pool, third)
        assert await earlier == "second"

    with_pool(paths, use, memory_budget=int(1.5 * PROCESS))


def test_worker_may_not_take_all_memory(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        async with pool.worker_for(add(store, tmp_path)) as worker:
            limits = Path(f"/proc/{worker.pid}/limits").read_text()
        line = next(line for line in limits.splitlines() if line.startswith("Max data size"))
        assert 1_000_000_000 < int(line.split()[3]) < 2_000_000_000

    with_pool(paths, use)
