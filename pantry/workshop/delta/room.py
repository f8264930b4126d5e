"""A temporary folder on the disk of the result, removed at the end, or by the next run where this one is killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pantry.core.files import TEMPORARY_PREFIX, storage_errors

PREFIX = f"{TEMPORARY_PREFIX}room-"
_YOUNG = 60.0  # seconds in which a room may exist before its maker has locked it


@contextlib.contextmanager
def room_beside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, or in it if it is a folder, locked while it is in use.

    Rooms there that nobody holds any more are removed first.
    """
    with storage_errors(f"Writing beside {out}"):
        parent = out.absolute() if out.is_dir() else out.absolute().parent
        parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(parent)
        room = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        lock = os.open(room, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)
        os.close(lock)


def _remove_abandoned(parent: Path) -> None:
    for room in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = os.open(room, os.O_RDONLY | os.O_NOFOLLOW | os.O_DIRECTORY)
            try:
                if time.time() - os.fstat(lock).st_mtime > _YOUNG:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(room, ignore_errors=True)
            finally:
                os.close(lock)
