"""Fixtures every room's tests share: a home of its own for each test, and small GGUF files made on the spot."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.client.discovery import lock_holder
from pantry.core.paths import Paths, find_paths
from tests.gguf_files import GGUFBuilder
from tests.skips import pytest_addoption, pytest_sessionfinish, pytest_terminal_summary

__all__ = ["pytest_addoption", "pytest_sessionfinish", "pytest_terminal_summary"]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty Pantry home; no test touches the user's own, nor reads the user's settings.

    A service that a test started in a home under its folder, and left because it failed, ends with the test.
    """
    for name in [name for name in os.environ if name.startswith("PANTRY_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("PANTRY_HOME", str(folder))
    yield folder
    for key in tmp_path.glob("*/data/owner.key"):
        _end_service(find_paths({"PANTRY_HOME": str(key.parent.parent)}))


def _end_service(paths: Paths) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        while (process := lock_holder(paths)) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
            time.sleep(0.1)


@pytest.fixture
def paths(home: Path) -> Paths:
    return find_paths()


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A valid GGUF file with two small tensors; not a model that any engine can run."""
    file = tmp_path / "tiny.gguf"
    file.write_bytes(GGUFBuilder().build())
    return file
