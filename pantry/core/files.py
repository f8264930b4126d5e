"""Files that appear at their final name only when complete: temporary name, sync, rename, sync of the folder."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
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
        temporary = final.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
            sync_folder(final.parent)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_atomically(final: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Write `content` to `final` in one step: readers see the old file or the whole new one."""
    with staged_file(final, mode=mode) as file:
        file.write(content)
