"""Locks between processes: one holder at a time, and none is left by a process that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pantry.core.errors import StorageError
from pantry.core.locks import is_locked, lock_signer, locked, signed_lock, try_lock

HOLDS = """
import sys, pathlib
from pantry.core import locks
with getattr(locks, sys.argv[1])(pathlib.Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding(how: str, path: Path) -> subprocess.Popen[bytes]:
    """A process that holds the lock file until it is killed."""
    command = [sys.executable, "-c", HOLDS, how, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    return process


def test_lock_is_taken_over_from_a_holder_who_removed_it(tmp_path: Path) -> None:
    order: list[str] = []
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "a.lock"):
            held.set()
            go.wait(5)
            order.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(5)
    waiting: Callable[[], None] = go.set
    with locked(tmp_path / "a.lock", waiting):
        order.append("second")
    thread.join()
    assert order == ["first", "second"]


def test_lock_file_goes_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.lock"
    assert not is_locked(path)
    with locked(path):
        assert is_locked(path)
    assert not path.exists()


def test_lock_of_a_killed_process_is_free_though_its_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    with holding("locked", path) as process:
        assert is_locked(path)
        process.kill()
    assert path.exists()
    assert not is_locked(path)
    with locked(path):
        pass


def test_lock_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(StorageError, match=r"Locking a\.lock failed: a file is in the way"),
        locked(tmp_path / "file" / "a.lock"),
    ):
        pass


def test_signed_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    path.write_text("987654321 of long ago")
    assert lock_signer(path) is None
    with signed_lock(path) as taken:
        assert taken
        assert lock_signer(path) == os.getpid()
    with holding("signed_lock", path) as process:
        assert lock_signer(path) == process.pid
        with signed_lock(path) as taken:
            assert not taken
        assert lock_signer(path) == process.pid
        process.kill()
    assert lock_signer(path) is None
    assert lock_signer(tmp_path / "none") is None


def test_folder_is_locked_as_well(tmp_path: Path) -> None:
    first, second = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    assert try_lock(first)
    assert not try_lock(second)
    os.close(first)
    assert try_lock(second)
    os.close(second)
