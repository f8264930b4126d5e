"""The `.enc` files of point-alpaca (2023): weights XOR the bytes of a file that the reader must already have.

The file is called `<name>.<SHA-256 of the plain file, hex>.enc`. It holds that digest (32 bytes), then the plain bytes
XOR the key. Both are taken in chunks of 10 MiB: a key used up at a chunk's end starts again at its beginning, and a
short last key chunk is repeated within its data chunk, so the chunk size belongs to the format. This hides nothing from
an attacker; it keeps the weights from whoever lacks the key file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, VerificationError
from pantry.core.files import staged_file, storage_errors
from pantry.core.progress import Progress

CHUNK = 10 << 20
"""Bytes taken at a time from data and key; part of the format."""
HEADER = hashlib.sha256().digest_size
_STEP = 1 << 18  # bytes read and mixed at a time: they stay in the processor's cache
_NAME = re.compile(r"(?P<name>.+)\.(?P<digest>[0-9a-f]{64})\.enc")


@dataclass(frozen=True)
class Written:
    """A file that was written (or was there already, right): its checksums in hex."""

    path: Path
    sha256: str
    md5: str | None


@dataclass(frozen=True)
class EncName:
    """A file name as the format wants it: the plain name and the digest of the plain file."""

    plain: str
    digest: str

    @classmethod
    def parse(cls, name: str) -> EncName:
        """Raises BadFileError when the name is of another form or would leave its folder."""
        match = _NAME.fullmatch(name)
        if not match or match["name"] in (".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise BadFileError(
                f"{name!r} is not named like an .enc file.", hint="Expected NAME.<64 hex digits>.enc, as published."
            )
        return cls(match["name"], match["digest"])


def encrypt(plain: Path, key: Path, folder: Path, *, md5: bool = True, progress: Progress | None = None) -> Written:
    """Write `<name>.<digest>.enc` into `folder`; one that is there already and right is left.

    Raises UsageError for an empty key, NotFoundError, ConflictError when another file of that name is there,
    StorageError.
    """
    _check_files(plain, key)
    with storage_errors(f"Reading {plain}"), plain.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    final = folder / f"{plain.name}.{digest.hexdigest()}.enc"
    if final.is_file() and _becomes(final, key, digest.digest()):
        return checksums_of(final, md5=md5)
    with storage_errors(f"Encrypting {plain.name}"), _Input(plain) as data, _Input(key) as key_file:
        sums = _Sums(md5)
        with _fresh_file(final) as out, sums:
            sums.write(digest.digest(), out)
            again = hashlib.sha256()
            for coded in _Mixer(data, key_file, again.update).chunks(0, progress):
                sums.write(coded, out)
            if again.digest() != digest.digest():
                raise BadFileError(f"{plain} changed while it was read.", hint="Run the command again.")
    return Written(final, *sums.hex())


def decrypt(encrypted: Path, key: Path, folder: Path, *, md5: bool = True, progress: Progress | None = None) -> Written:
    """Write the plain file into `folder`, at its name only when its digest is right.

    Raises UsageError for an empty key, BadFileError for a wrong name or header, VerificationError when the result is
    not what the header says (a wrong key, or damage), ConflictError when another file of that name is there.
    """
    _check_files(encrypted, key)
    name = EncName.parse(encrypted.name)
    with storage_errors(f"Decrypting {encrypted.name}"), _Input(encrypted) as data, _Input(key) as key_file:
        first = np.empty(min(HEADER, data.size), np.uint8)
        data.read(0, first)
        header = first.tobytes()
        if len(header) < HEADER or header.hex() != name.digest:
            raise BadFileError(
                f"The header of {encrypted.name} is damaged: it says {header.hex()[:12] or 'nothing'}…, "
                f"the name says {name.digest[:12]}…."
                if len(header) == HEADER
                else f"{encrypted.name} is cut short: it has {len(header)} bytes, its header alone {HEADER}.",
                hint="Fetch the file again, and do not rename it.",
            )
        sums = _Sums(md5)
        with _fresh_file(folder / name.plain) as out, sums:
            for plain in _Mixer(data, key_file).chunks(HEADER, progress):
                sums.write(plain, out)
            if sums.hex()[0] != name.digest:
                raise VerificationError(
                    f"{encrypted.name} does not become the file it should: sha256 {sums.hex()[0][:12]}…, "
                    f"{name.digest[:12]}… expected. Nothing was kept.",
                    hint=f"Check that {key.name} is the key file its publisher names, unchanged.",
                )
    return Written(folder / name.plain, *sums.hex())


def _becomes(encrypted: Path, key: Path, digest: bytes) -> bool:
    """Whether an .enc file and the key give the file of that SHA-256."""
    with storage_errors(f"Reading {encrypted}"), _Input(encrypted) as data, _Input(key) as key_file:
        header, whole = np.empty(min(HEADER, data.size), np.uint8), hashlib.sha256()
        data.read(0, header)
        for plain in _Mixer(data, key_file).chunks(HEADER, None):
            whole.update(plain)
        return header.tobytes() == whole.digest() == digest


def checksums_of(file: Path, *, md5: bool = True) -> Written:
    """The checksums of a file."""
    sums = _Sums(md5)
    with storage_errors(f"Reading {file}"), _Input(file) as opened, sums:
        buffers = _two_buffers(opened.size)
        for at in range(0, opened.size, CHUNK):
            buffers.reverse()
            chunk = buffers[0][: opened.size - at]
            opened.read(at, chunk)
            sums.update(chunk.data)
    return Written(file, *sums.hex())


def already_there(file: Path, digest: str, *, md5: bool = True) -> Written | None:
    """The checksums of `file` when it exists and has that SHA-256."""
    found = checksums_of(file, md5=md5) if file.is_file() else None
    return found if found and found.sha256 == digest else None


def _check_files(data: Path, key: Path) -> None:
    for file in (data, key):
        if file.exists() and not file.is_file():
            raise UsageError(f"{file} is not a plain file; data and key are one file each.")
        if not file.is_file():
            raise NotFoundError(f"There is no file {file}.")
    if key.stat().st_size == 0:
        raise UsageError(f"The key {key} is empty.", hint="Give the original weights file that the publisher names.")


def _fresh_file(final: Path) -> AbstractContextManager[BinaryIO]:
    if final.exists() or final.is_symlink():
        raise ConflictError(f"{final} exists already, with other content.", hint="Remove it or name another folder.")
    return staged_file(final)


class _Input:
    """A file to be read. Not mapped into memory: a mapped file that someone cuts short kills the process."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, path.open("rb", buffering=0)
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, into: NDArray[np.uint8]) -> None:
        """Fill `into` with the bytes from `start`. Raises BadFileError when the file has another size than it had."""
        done = 0
        while done < len(into) and (count := os.preadv(self._file.fileno(), [into[done:].data], start + done)):
            done += count
        if done < len(into) or os.fstat(self._file.fileno()).st_size != self.size:
            raise BadFileError(f"{self._path} changed while it was read.", hint="Run the command again.")

    def __enter__(self) -> _Input:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _two_buffers(size: int) -> list[NDArray[np.uint8]]:
    """Room for two chunks of a file of `size` bytes: one is worked on while the sums of the other are computed."""
    return [np.empty(min(CHUNK, size), np.uint8) for _ in range(2)]


class _Mixer:
    """Data XOR key, chunk by chunk. A chunk it gives is valid until the second one after it is asked for.

    `see` is shown the data before it is mixed.
    """

    def __init__(self, data: _Input, key: _Input, see: Callable[[memoryview], object] | None = None) -> None:
        self._data, self._key, self._key_at, self._see = data, key, 0, see
        self._mixed, self._pattern = _two_buffers(data.size), np.empty(min(_STEP, key.size), np.uint8)

    def chunks(self, start: int, progress: Progress | None) -> Iterator[memoryview]:
        """The chunks from byte `start` of the data."""
        for at in range(start, self._data.size, CHUNK):
            self._mixed.reverse()
            chunk = self._mixed[0][: self._data.size - at]
            self._mix(at, chunk)
            yield chunk.data
            if progress:
                progress(at + len(chunk) - start, self._data.size - start)

    def _mix(self, start: int, chunk: NDArray[np.uint8]) -> None:
        """Fill `chunk` with data XOR the key's next chunk: from its beginning when it is used up."""
        if self._key_at >= self._key.size:
            self._key_at = 0
        at, self._key_at = self._key_at, self._key_at + CHUNK
        repeated = self._repeated(at, len(chunk))
        for low in range(0, len(chunk), _STEP):
            part = chunk[low : low + _STEP]
            self._data.read(start + low, part)
            if self._see:
                self._see(part.data)
            if repeated is None:
                pattern = self._pattern[: len(part)]
                self._key.read(at + low, pattern)
            else:
                pattern = repeated[low : low + _STEP]
            np.bitwise_xor(part, pattern, out=part)

    def _repeated(self, at: int, count: int) -> NDArray[np.uint8] | None:
        """The rest of the key from `at`, over and over, where it is shorter than `count` bytes."""
        left = self._key.size - at
        if left >= count:
            return None
        pattern = np.empty(left, np.uint8)
        self._key.read(at, pattern)
        return np.tile(pattern, -(-count // left))[:count]


class _Sums:
    """SHA-256, and MD5 where it is wanted, of what is written, each in a thread beside."""

    def __init__(self, md5: bool) -> None:
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False) if md5 else None
        self._pool = ThreadPoolExecutor(2)
        self._beside: list[Future[None]] = []

    def __enter__(self) -> _Sums:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def update(self, data: bytes | memoryview) -> None:
        """Count `data` in; it must stay as it is until the next call returns."""
        self._wait()
        sums = (self._sha256, self._md5) if self._md5 else (self._sha256,)
        self._beside = [self._pool.submit(each.update, data) for each in sums]

    def write(self, data: bytes | memoryview, out: BinaryIO) -> None:
        """Count `data` in and write it."""
        self.update(data)
        out.write(data)

    def hex(self) -> tuple[str, str | None]:
        """SHA-256 and MD5 so far."""
        self._wait()
        return self._sha256.hexdigest(), self._md5.hexdigest() if self._md5 else None

    def _wait(self) -> None:
        for future in self._beside:
            future.result()
