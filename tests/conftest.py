"""What every room's tests share: a home of its own for each test, and small GGUF files made on the spot.

What a test leaves behind is found at its end and told of that test, never of the next one: garbage is collected then,
and what a failed test left open is closed without a word, since its failure is told already.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import itertools
import os
import signal
import sys
import time
import warnings
from collections.abc import Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, settings

from pantry.client.discovery import lock_holder
from pantry.core.paths import Paths, find_paths
from tests.catalogue.indexes import share_indexes, shared_folder
from tests.gguf_files import GGUFBuilder
from tests.heavy import pytest_collection_modifyitems
from tests.skips import pytest_addoption, pytest_sessionfinish, pytest_terminal_summary

__all__ = ["pytest_addoption", "pytest_collection_modifyitems", "pytest_sessionfinish", "pytest_terminal_summary"]

# How long an example takes says more of the machine than of the code.
settings.register_profile(
    "pantry", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.load_profile("pantry")


@pytest.fixture(scope="session", autouse=True)
def _indexes() -> None:
    share_indexes(shared_folder())


def pytest_collection_finish() -> None:
    """What is imported by now is no test's garbage: looking for that takes a millisecond instead of a hundred."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    failed = item.session.testsfailed
    result = yield
    if item.session.testsfailed > failed:
        for name in ("last_exc", "last_value", "last_traceback"):
            if hasattr(sys, name):
                delattr(sys, name)  # else the frames of the test live on, and what they hold
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    return result


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
    gc.collect()


def _end_service(paths: Paths) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 10
        while (process := lock_holder(paths)) and time.monotonic() < deadline:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)
            time.sleep(0.1)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The inodes of the files and folders that were written through to the disk, in order."""
    found: list[int] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        fsync(descriptor)
        found.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", spy)
    return found


@functools.cache
def _rsa_key(number: int) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=4096)


@pytest.fixture
def ready_rsa_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """New RSA keys of a test are the first, second, ... of this run: to make one takes seconds."""
    numbers = itertools.count()
    ready = {"generate_private_key": lambda **_: _rsa_key(next(numbers))}
    monkeypatch.setattr("pantry.flatpack.signing.keys.rsa", SimpleNamespace(**vars(rsa) | ready))


@pytest.fixture
def paths(home: Path) -> Paths:
    return find_paths()


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A valid GGUF file with two small tensors; not a model that any engine can run."""
    file = tmp_path / "tiny.gguf"
    file.write_bytes(GGUFBuilder().build())
    return file
