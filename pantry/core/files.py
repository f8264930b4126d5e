"""Files that appear at their final name only when complete: temporary name, sync, rename, sync of the folder."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pantry.core.errors import BadFileError, storage_error
from pantry.core.locks import try_lock

TEMPORARY_PREFIX = ".tmp-"
"""Names with this prefix are unfinished; whoever finds an old one may delete it."""


@contextlib.contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Turn an operating-system error during `doing` ("writing the model") into a StorageError."""
    try:
        yield
    except OSError as error:
        raise storage_error(doing, error) from error


def read_bounded(file: Path, limit: int, *, name: str | None = None) -> bytes:
    """The content of a file, called `name` in errors. Raises BadFileError over `limit` bytes, or StorageError."""
    name = name or str(file)
    with storage_errors(f"Reading {name}"), file.open("rb") as opened:
        content = opened.read(limit + 1)
    if len(content) > limit:
        raise BadFileError(f"{name} is larger than {limit} bytes.")
    return content


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
    """A fresh folder beside `final` for unfinished work; deleted at the end unless `finish_folder` took it."""
    final.parent.mkdir(parents=True, exist_ok=True)
    folder, descriptor = _held_folder(final)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def finish_folder(folder: Path, final: Path) -> None:
    """Give a folder of `folder_beside` its final name, which may be that of an empty folder."""
    _mark(folder, unfinished=False)
    folder.replace(final)
    sync_folder(final.parent)


def remove_stale(final: Path) -> None:
    """Delete what killed processes of this user left beside `final` while they wrote it; others still at work keep it.

    Whoever writes holds a lock on the unfinished file or folder, which ends with the process. The names tell the
    machine, since some file systems that several machines share keep locks to each.
    """
    with contextlib.suppress(OSError):
        for path in final.parent.glob(f"{_prefix(final)}*"):
            with contextlib.suppress(OSError):
                _remove_unheld(path)


def _remove_unheld(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid() or not try_lock(descriptor):
            return
        state = os.fstat(descriptor)  # only now: until then it could be finished, and have its final name
        if stat.S_ISDIR(state.st_mode):
            # Whoever may rename in a shared folder could have put another folder of this user here: no mark, no touch.
            if state.st_mode & stat.S_ISVTX:
                _empty(descriptor)
            path.rmdir()
        else:
            path.unlink()
    finally:
        os.close(descriptor)


def _empty(descriptor: int) -> None:
    """Delete what is in an open folder, wherever its name leads meanwhile."""
    with os.scandir(descriptor) as items:
        inner = [(item.name, item.is_dir(follow_symlinks=False)) for item in items]
    for name, is_folder in inner:
        shutil.rmtree(name, dir_fd=descriptor) if is_folder else os.unlink(name, dir_fd=descriptor)


def _held_file(final: Path, mode: int) -> tuple[Path, int]:
    """A fresh file beside `final`, locked; once more where another process took it for a stale one before that."""
    while True:
        temporary = _temporary(final)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        if _hold(descriptor, temporary):
            return temporary, descriptor
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def _held_folder(final: Path) -> tuple[Path, int]:
    """A fresh folder beside `final`, locked and marked as unfinished; else as `_held_file`."""
    while True:
        folder = _temporary(final)
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(folder, os.O_RDONLY)
            if _hold(descriptor, folder):
                _mark(folder, unfinished=True)
                return folder, descriptor
            os.close(descriptor)
            folder.rmdir()


def _hold(descriptor: int, path: Path) -> bool:
    """Lock a fresh file or folder; whether it is still there and nobody is about to remove it."""
    with contextlib.suppress(OSError):  # without locks, `_remove_unheld` gets none either and then removes nothing
        if not try_lock(descriptor):
            return False
    return path.exists()


def _mark(folder: Path, *, unfinished: bool) -> None:
    """Set or take away the bit that only the owner can set, and that hardly any folder has by itself."""
    mode = stat.S_IMODE(folder.stat().st_mode) & ~stat.S_ISVTX
    with contextlib.suppress(PermissionError):  # a file system without such bits
        folder.chmod(mode | stat.S_ISVTX if unfinished else mode)


def _temporary(final: Path) -> Path:
    return final.parent / f"{_prefix(final)}{secrets.token_hex(8)}"


def _prefix(final: Path) -> str:
    """How unfinished files for `final` are called on this machine, and for no other name."""
    whose = os.fsencode(os.uname().nodename) + b"/" + os.fsencode(final.name)
    return f"{TEMPORARY_PREFIX}{hashlib.sha256(whose).hexdigest()[:12]}-"


def write_atomically(final: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` to `final` in one step: readers see the old file or the whole new one."""
    with staged_file(final, mode=mode) as file:
        file.write(content)
