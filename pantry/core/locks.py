"""Locks between processes: the kernel keeps each one and frees it when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pantry.core.errors import storage_error


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed; False when another has it.

    Raises OSError where the file system has no locks.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(descriptor: int) -> None:
    """Lock an open file or folder until it is closed, as soon as others let go of it. Raises as `try_lock`."""
    fcntl.flock(descriptor, fcntl.LOCK_EX)


@contextlib.contextmanager
def locked(path: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold the lock file at `path`; `waiting` is called once when another process has it. Removed at the end."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = _take(path, waiting)
    except OSError as error:
        raise storage_error(f"Locking {path.name}", error) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _take(path: Path, waiting: Callable[[], None] | None) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not try_lock(descriptor):
                if waiting:
                    waiting()
                    waiting = None
                wait_for_lock(descriptor)
            if _is_at(descriptor, path):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the holder before us removed the file: someone else may have a new one


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        there = path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    mine = os.fstat(descriptor)
    return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def signed_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file at `path` and note this process in it, for `lock_signer`; False when another has it.

    The file stays: whoever asks must find the one that is held. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        taken = try_lock(descriptor)
        if taken:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield taken
    finally:
        os.close(descriptor)


def lock_signer(path: Path) -> int | None:
    """The process that holds a `signed_lock`; None when nobody does."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        if not try_lock(descriptor):
            return int(os.read(descriptor, 20))
    except (OSError, ValueError):  # no locks on this file system, or the holder is about to note itself
        pass
    finally:
        os.close(descriptor)
    return None
