"""Blobs: files by SHA-256 digest, written once and never changed.

A model that is loaded is mapped into memory: rewriting its file in place would kill the engine (SIGBUS). So a blob is
always a file of its own, read-only, never a link to a file that others may write.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pantry.core.errors import BadFileError, NotFoundError, StorageError, VerificationError
from pantry.core.files import TEMPORARY_PREFIX, storage_errors, sync_folder
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.core.units import format_bytes
from pantry.store.database import Database, now

CHUNK = 1 << 20  # bytes read, hashed and written at a time
SPARE_SPACE = 64_000_000  # bytes left free on the disk
_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file


@dataclass(frozen=True)
class Staged:
    """A complete file under a temporary name in the blob folder."""

    file: Path
    digest: Digest
    size: int


@dataclass(frozen=True)
class Blobs:
    """The blob folder of a home and its table."""

    folder: Path
    database: Database

    def path(self, digest: Digest) -> Path:
        """Where the blob lies or would lie."""
        return self.folder / digest.hex[:2] / digest.hex

    @contextlib.contextmanager
    def staged_copy(self, source: Path, progress: Progress | None = None, *, link: bool = False) -> Iterator[Staged]:
        """Copy `source` into the blob folder under a temporary name, hashing on the way; `adopt` makes it a blob.

        The copy shares the blocks of `source` where the file system can; with `link` it is a hard link where possible.

        Raises StorageError when the disk is too small or a file cannot be read or written, and BadFileError when
        the source changes while it is read. What is not adopted is deleted at the end.
        """
        with storage_errors(f"Adding {source}"), source.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            incoming = self.folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                if (link and _link(source, file, incoming)) or _clone(file, incoming):
                    digest, copied = _hash(file, size, progress)
                else:
                    self._check_space(size)
                    digest, copied = _copy_and_hash(file, incoming, size, progress)
                if copied != size:
                    raise BadFileError(f"{source} changed while it was read: {size} bytes expected, {copied} came.")
                yield Staged(incoming, digest, size)
            finally:
                incoming.unlink(missing_ok=True)

    def adopt(self, staged: Staged) -> None:
        """Move a staged file to its place, in the caller's transaction."""
        final = self.path(staged.digest)
        with storage_errors(f"Storing {staged.digest.short}"):
            final.parent.mkdir(parents=True, exist_ok=True)
            staged.file.replace(final)
            sync_folder(final.parent)
        self._record(staged.digest, final)

    def clean_unfinished(self, older_than: float = 3600.0) -> int:
        """Delete temporary files untouched for `older_than` seconds, left by a killed process; their number."""
        limit = time.time() - older_than
        old = [f for f in self.folder.glob(f"{TEMPORARY_PREFIX}*") if f.stat().st_mtime < limit]
        for file in old:
            file.unlink(missing_ok=True)
        return len(old)

    def verified_path(self, digest: Digest) -> Path:
        """The path of a blob whose content is known to match its digest.

        The digest is computed again only when the file's identity (inode, size, times) is not the one recorded at
        the last check. Raises NotFoundError when the file is gone and VerificationError when its content changed.
        """
        path = self.path(digest)
        try:
            stamp = _stamp(path)
        except FileNotFoundError:
            raise NotFoundError(
                f"The file of {digest.short} is missing from the store.", hint="Add or pull the model again."
            ) from None
        row = self.database.row("SELECT stamp FROM blobs WHERE digest = ?", (str(digest),))
        if row is None or row["stamp"] != stamp:
            self.verify(digest)
        return path

    def verify(self, digest: Digest) -> None:
        """Compute the digest of a blob again. Raises VerificationError when it differs."""
        path = self.path(digest)
        with storage_errors(f"Reading {path}"), path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != digest.hex:
            raise VerificationError(
                f"{path} is damaged: its digest is sha256:{found[:12]}…, expected sha256:{digest.short}….",
                hint="Remove the model (pantry rm) and add or pull it again.",
            )
        self._record(digest, path)

    def remove(self, digest: Digest) -> int:
        """Delete a blob; the bytes freed. The caller has made sure that nothing uses it."""
        path = self.path(digest)
        with storage_errors(f"Removing {digest.short}"):
            size = path.stat().st_size if path.exists() else 0
            self.database.execute("DELETE FROM blobs WHERE digest = ?", (str(digest),))
            path.unlink(missing_ok=True)
        return size

    def _record(self, digest: Digest, path: Path) -> None:
        self.database.execute(
            "INSERT INTO blobs (digest, size, stamp, checked_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (digest) DO UPDATE SET stamp = excluded.stamp, checked_at = excluded.checked_at",
            (str(digest), path.stat().st_size, _stamp(path), now()),
        )

    def _check_space(self, size: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        disk = os.statvfs(self.folder)
        free = disk.f_bavail * disk.f_frsize
        if size + SPARE_SPACE > free:
            raise StorageError(
                f"The disk of {self.folder} has {format_bytes(free)} free; "
                f"{format_bytes(size + SPARE_SPACE)} are needed.",
                hint="Free some space, or set PANTRY_HOME to a larger disk.",
            )


def _copy_and_hash(source: BinaryIO, target: Path, size: int, progress: Progress | None) -> tuple[Digest, int]:
    """Write all of `source` to the new read-only file `target`, synced to disk; its digest and length."""
    hasher = hashlib.sha256()
    done = 0
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as out:
        while chunk := source.read(CHUNK):
            hasher.update(chunk)
            out.write(chunk)
            done += len(chunk)
            if progress:
                progress(done, size)
        out.flush()
        os.fsync(out.fileno())
    return Digest(hasher.hexdigest()), done


def _hash(source: BinaryIO, size: int, progress: Progress | None) -> tuple[Digest, int]:
    hasher, done = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        hasher.update(chunk)
        done += len(chunk)
        if progress:
            progress(done, size)
    return Digest(hasher.hexdigest()), done


def _link(source: Path, opened: BinaryIO, target: Path) -> bool:
    """Make `target` a hard link to the open file, if it is ours and on the same file system."""
    found = os.fstat(opened.fileno())
    if found.st_uid != os.getuid():
        return False
    try:
        os.link(source, target, follow_symlinks=True)
    except OSError:
        return False
    if target.lstat().st_ino != found.st_ino:
        target.unlink()
        return False
    return True


def _clone(source: BinaryIO, target: Path) -> bool:
    """Make `target` a new file that shares the blocks of the open one, where the file system can (ioctl FICLONE)."""
    try:
        import fcntl
    except ImportError:
        return False
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444)
    try:
        fcntl.ioctl(descriptor, _FICLONE, source.fileno())
    except OSError:
        target.unlink()
        return False
    else:
        os.fsync(descriptor)
        return True
    finally:
        os.close(descriptor)


def _stamp(path: Path) -> str:
    """What changes when a file is replaced or rewritten: device, inode, size, modification and change time."""
    found = path.stat(follow_symlinks=False)
    if not stat.S_ISREG(found.st_mode):
        raise VerificationError(f"{path} is not a regular file.", hint="Remove it and add the model again.")
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"
