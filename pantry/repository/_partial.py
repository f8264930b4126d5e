"""A file on its way: its bytes, a journal of which of them are there, and a lock for the one process that fetches it.

The journal is written after the bytes it speaks of, so it never claims more than there is when a process is killed.
After a power cut it may; the digest of the whole finds that, and the download starts afresh.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pantry.core.errors import StorageError
from pantry.core.files import TEMPORARY_PREFIX, storage_errors
from pantry.core.locks import is_locked
from pantry.core.units import format_bytes

CHUNK = 16 << 20
"""Bytes between two places where connections may meet."""
SPARE_SPACE = 64_000_000  # bytes left free on the disk
READ = 1 << 20
UNBOX_PREFIX = "unbox-"
"""Folders with this prefix hold the files of a flatpack on their way into the store."""
_OURS = (".part", ".json", ".lock", ".memory")


@dataclass
class Partial:
    """The unfinished file at `path`. `have` counts, for each chunk, the bytes from its start that are there."""

    path: Path
    length: int
    url: str
    validator: str
    have: list[int]
    descriptor: int = -1
    resumed: int = 0

    @classmethod
    def open(cls, path: Path, length: int, url: str) -> Partial:
        """Continue the file at `path` if its journal fits, else begin it. Raises StorageError when space is short."""
        chunks = -(-length // CHUNK)
        partial = cls(path, length, url, "", [0] * chunks)
        with storage_errors(f"Downloading to {path.parent}"):
            partial.descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            try:
                partial._recall()
                check_space(path.parent, length - partial.done)
                os.ftruncate(partial.descriptor, length)
            except BaseException:
                partial.close()
                if not partial.resumed:
                    path.unlink()
                raise
        return partial

    def close(self) -> None:
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def journal(self) -> Path:
        return self.path.with_suffix(".json")

    @property
    def done(self) -> int:
        return sum(self.have)

    def size_of(self, chunk: int) -> int:
        """Bytes of a chunk; the last one may be short."""
        return min(CHUNK, self.length - chunk * CHUNK)

    def save(self) -> None:
        """Write the journal: in one step, but without a sync, which would hold up the download."""
        content = {"length": self.length, "url": self.url, "validator": self.validator, "have": list(self.have)}
        temporary = self.path.with_name(f"{TEMPORARY_PREFIX}{self.path.stem}")
        with storage_errors(f"Downloading to {self.path.parent}"):
            temporary.write_text(json.dumps(content))
            temporary.replace(self.journal)

    def forget(self) -> None:
        """Begin again: nothing is there."""
        self.have[:] = [0] * len(self.have)
        self.validator = ""

    def write(self, offset: int, data: bytes) -> None:
        """Put bytes in their place."""
        left = memoryview(data)
        with storage_errors(f"Downloading to {self.path.parent}"):
            while left:
                count = os.pwrite(self.descriptor, left, offset)
                left, offset = left[count:], offset + count

    def digest(self, ready: Callable[[int], bool]) -> str:
        """SHA-256 of the file, chunk by chunk; `ready` waits for a chunk, and says False to give up."""
        hasher = hashlib.sha256()
        for chunk in range(len(self.have)):
            if not ready(chunk):
                return ""
            offset, end = chunk * CHUNK, chunk * CHUNK + self.size_of(chunk)
            while offset < end:
                data = os.pread(self.descriptor, min(READ, end - offset), offset)
                if not data:
                    return ""
                hasher.update(data)
                offset += len(data)
        return hasher.hexdigest()

    def _recall(self) -> None:
        """Take over what an earlier try left, where its journal is whole and of the same file."""
        try:
            found = json.loads(self.journal.read_bytes())
            have = [int(count) for count in found["have"]]
            fits = found["length"] == self.length and len(have) == len(self.have)
            fits = fits and all(0 <= count <= self.size_of(chunk) for chunk, count in enumerate(have))
            fits = fits and os.fstat(self.descriptor).st_size == self.length
            validator = str(found["validator"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        if fits:
            self.have, self.validator = have, validator if found["url"] == self.url else ""
            self.resumed = self.done


def check_space(folder: Path, needed: int) -> None:
    """Raises StorageError unless the disk of `folder` has room for `needed` more bytes."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize
    if needed + SPARE_SPACE > free:
        raise StorageError(
            f"The disk of {folder} has {format_bytes(free)} free; {format_bytes(needed + SPARE_SPACE)} are needed.",
            hint="Free some space (pantry gc), or set PANTRY_HOME to a larger disk.",
        )


def clean_partials(folder: Path, older_than: float) -> int:
    """Delete what interrupted downloads left and nobody touched for `older_than` seconds; the bytes freed."""
    if not folder.is_dir():
        return 0
    freed, limit = 0, time.time() - older_than
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if file.stat(follow_symlinks=False).st_mtime >= limit:
                continue
            if file.is_dir() and file.name.startswith(UNBOX_PREFIX) and not _is_held(file):
                freed += sum(item.lstat().st_blocks * 512 for item in file.rglob("*"))
                shutil.rmtree(file, ignore_errors=True)
            elif file.is_file() and _is_ours(file) and not _is_held(file):
                freed += file.lstat().st_blocks * 512
                file.unlink()
    return freed


def _is_ours(file: Path) -> bool:
    return file.suffix in _OURS or file.name.startswith(TEMPORARY_PREFIX)


def _is_held(file: Path) -> bool:
    return is_locked(file.with_suffix(".lock"))
