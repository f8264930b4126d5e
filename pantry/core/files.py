"""Files that appear at their final name only when complete: temporary name, sync, rename, sync of the folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pantry.core.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"
"""Names with this prefix are unfinished; whoever finds an old one may delete it."""


@contextlib.contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an operating-system error during `doing` ("writing the model") into a StorageError."""
    try:
        yield
    except OSError as error:
        reasons = {
            errno.ENOSPC: ("the disk is full", "Free some space and try again; nothing was kept half-written."),
            errno.EDQUOT: ("the disk quota is used up", "Free some space and try again."),
            errno.EROFS: ("the file system is read-only", "Set PANTRY_HOME to a folder you can write."),
            errno.EACCES: ("access is denied", "Check the owner and mode of that path."),
            errno.EPERM: ("access is denied", "Check the owner and mode of that path."),
            errno.ENOENT: ("it does not exist", None),
            errno.EISDIR: ("it is a folder, not a file", None),
        }
        reason, hint = reasons.get(error.errno or 0, (error.strerror or str(error), None))
        where = f" ({error.filename})" if error.filename else ""
        raise StorageError(f"{doing} failed: {reason}{where}.", hint=hint) from error


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged_file(final: Path, *, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file beside `final`; on clean exit sync it and rename it to `final`, otherwise delete it.

    Raises StorageError when the disk is full or the folder cannot be written.
    """
    with storage_errors(f"Writing {final.name}"):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _held_file(final, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(final)  # while the file is still held
            sync_folder(final.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def folder_beside(final: Path) -> Iterator[Path]:
    """A fresh folder beside `final` for unfinished work; at the end it is deleted, unless it was renamed."""
    final.parent.mkdir(parents=True, exist_ok=True)
    while True:
        folder = _temporary(final)
        folder.mkdir()
        descriptor = os.open(folder, os.O_RDONLY)
        _hold(descriptor)
        if folder.exists():
            break
        os.close(descriptor)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_stale(final: Path) -> None:
    """Delete what killed processes of this user left beside `final` while they wrote it; others still at work keep it.

    Whoever writes holds a lock on the unfinished file or folder, which ends with the process.
    """
    with contextlib.suppress(OSError):
        for path in final.parent.glob(f"{_prefix(final)}*"):
            with contextlib.suppress(OSError):
                _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    finally:
        os.close(descriptor)


def _held_file(final: Path, mode: int) -> tuple[Path, int]:
    """A fresh file beside `final`, locked; once more where another process took it for a stale one before that."""
    while True:
        temporary = _temporary(final)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        _hold(descriptor)
        if temporary.exists():
            return temporary, descriptor
        os.close(descriptor)


def _hold(descriptor: int) -> None:
    # A file system without locks refuses them to `_remove_unheld` as well, which then removes nothing.
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _temporary(final: Path) -> Path:
    return final.parent / f"{_prefix(final)}{secrets.token_hex(8)}"


def _prefix(final: Path) -> str:
    """How unfinished files for `final` are called, and for no other name."""
    return f"{TEMPORARY_PREFIX}{hashlib.sha256(os.fsencode(final.name)).hexdigest()[:12]}-"


def write_atomically(final: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` to `final` in one step: readers see the old file or the whole new one."""
    with staged_file(final, mode=mode) as file:
        file.write(content)
