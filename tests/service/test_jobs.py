"""What the service does beside its requests."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from pantry.core.paths import Paths
from pantry.service.jobs import download
from pantry.service.state import MAX_DOWNLOADS


def test_few_downloads_run_at_once_and_the_others_wait(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    begun: list[str] = []
    most = 0

    def pull(paths: Paths, name: str, url: str | None, progress: object) -> str:
        begun.append(name)
        assert go.wait(20)
        return name

    def running() -> int:
        return sum(thread.name == "download" for thread in threading.enumerate())

    async def run() -> list[Any]:
        nonlocal most
        gateway: Any = SimpleNamespace(paths=paths, downloads=asyncio.Semaphore(MAX_DOWNLOADS))
        names = [str(number) for number in range(MAX_DOWNLOADS + 2)]
        tasks = [asyncio.create_task(download(gateway, name, None, lambda *_: None)) for name in names]
        await asyncio.sleep(0)  # each has started its thread, or waits
        most = running()
        go.set()
        return await asyncio.gather(*tasks)

    monkeypatch.setattr("pantry.operations.pull.download_model", pull)
    assert asyncio.run(run()) == begun == ["0", "1", "2", "3", "4"]
    assert most == MAX_DOWNLOADS
