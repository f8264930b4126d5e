"""The `.fpk` of 2023: zstd(tar), `---SIGNATURE_SEPARATOR---`, and an RSA-PSS signature over what stands before.

The salt is as long as the key allows, the hash SHA-256, -384 or -512 (the file does not tell which). A single file is
compressed without tar. The last separator counts, since the data may contain it too. Read, verified and written here;
the signature is checked before anything is decompressed.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa, utils

from pantry.core.errors import BadFileError, NotFoundError, UsageError, VerificationError
from pantry.core.files import remove_stale, staged_file, storage_errors
from pantry.core.refs import Digest
from pantry.flatpack.archive import _tar
from pantry.flatpack.archive._foreign_tar import is_tar, read_members
from pantry.flatpack.archive._unbox import TreeWriter, staged_folder
from pantry.flatpack.folder import list_files, open_plain
from pantry.flatpack.names import check_path
from pantry.flatpack.signing.keys import MAX_RSA_BITS, HashSize, PrivateKey, PublicKey, hash_of
from pantry.flatpack.statement import Entry

SEPARATOR = b"---SIGNATURE_SEPARATOR---"
_LEVEL = 3
_STEP = 1 << 20
_MAX_WINDOW = 1 << 27
_FRAME_HEADER = 18
_FREE_GROWTH = 1 << 30
_MAX_GROWTH = 200
"""Beyond `_FREE_GROWTH` bytes, content may be at most this many times the compressed size."""


@dataclass(frozen=True)
class LegacyFile:
    """A signed file of 2023: where its data end, and the signature."""

    path: Path
    data_size: int
    signature: bytes


@dataclass(frozen=True)
class LegacyVerdict:
    """Whose signature it is. `digest` is the hash of the data that was verified, by the hash of `bits`."""

    key: PublicKey
    bits: HashSize
    digest: bytes


def is_legacy(path: Path) -> bool:
    """Whether the file ends with a separator and something as long as an RSA signature."""
    return path.is_file() and _find(path) is not None


def open_legacy(path: Path) -> LegacyFile:
    """The parts of a legacy file. Raises BadFileError when there is no separator near its end."""
    if not path.is_file():
        raise NotFoundError(f"There is no file {path}.")
    found = _find(path)
    if found is None:
        raise BadFileError(f"{path.name} has no {SEPARATOR.decode()} before its end, so it is not signed.")
    return found


def _find(path: Path) -> LegacyFile | None:
    with storage_errors(f"Reading {path}"), path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = max(0, size - MAX_RSA_BITS // 8 - len(SEPARATOR))
        file.seek(start)
        tail = file.read()
    at = tail.rfind(SEPARATOR)
    signature = tail[at + len(SEPARATOR) :]
    return LegacyFile(path, start + at, signature) if at >= 0 and len(signature) >= 128 else None


def compress(source: Path, out: Path) -> None:
    """Compress a folder (as tar, with its name in front) or a file into one zstd frame. Raises StorageError."""
    if not source.exists():
        raise NotFoundError(f"There is no {source}.")
    if source.is_dir():
        found = list_files(source, skip=frozenset())
        top = source.resolve().name
        entries = tuple(Entry(f"{top}/{item.path}", Digest(""), item.size, item.executable) for item in found)
        chunks = _tar_of(source, top, entries)
        write_legacy_data(chunks, _tar.stream_size(entries), out)
    elif not source.is_file():
        raise UsageError(f"{source} is a device, pipe or socket; expected a file or folder.")
    else:
        with storage_errors(f"Reading {source}"), source.open("rb") as file:
            write_legacy_data(iter(lambda: file.read(_STEP), b""), source.stat().st_size, out)


def _tar_of(folder: Path, top: str, entries: Iterable[Entry]) -> Iterator[bytes]:
    for entry in entries:
        yield _tar.header(entry.path, entry.known_size, entry.executable)
        with os.fdopen(open_plain(folder, entry.path.removeprefix(f"{top}/")), "rb") as file:
            yield from iter(lambda: file.read(_STEP), b"")
        yield _tar.padding(entry.known_size)
    yield _tar.END


def write_legacy_data(chunks: Iterable[bytes], size: int, out: Path) -> None:
    """Compress `size` bytes into one frame that tells its content size, as readers of that time need it."""
    remove_stale(out)
    try:
        with staged_file(out) as file:
            compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj(size=size)
            for chunk in chunks:
                file.write(compressor.compress(chunk))
            file.write(compressor.flush())
    except zstandard.ZstdError as error:
        raise BadFileError(f"A file changed while it was compressed: {error}.") from None


def sign_legacy(data: Path, out: Path, key: PrivateKey, bits: HashSize = 256) -> None:
    """Write `data`, the separator and a signature to `out`. Raises UsageError for a key that is not RSA."""
    if not isinstance(key.raw, rsa.RSAPrivateKey):
        raise UsageError(f"The legacy format needs an RSA key; this is {key.public.type}.")
    algorithm = hash_of(bits)
    with storage_errors(f"Reading {data}"), data.open("rb") as file:
        digest = hashlib.file_digest(file, f"sha{bits}").digest()
        scheme = padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH)
        signature = key.raw.sign(digest, scheme, utils.Prehashed(algorithm))
        file.seek(0)
        remove_stale(out)
        with staged_file(out) as target:
            shutil.copyfileobj(file, target, _STEP)
            target.write(SEPARATOR + signature)


def verify_legacy(found: LegacyFile, keys: Iterable[PublicKey]) -> LegacyVerdict | None:
    """The key, of those given, that signed the file, and with which hash; None when it was none of them."""
    candidates = [key for key in keys if isinstance(key.raw, rsa.RSAPublicKey)]
    candidates = [key for key in candidates if key.raw.key_size == 8 * len(found.signature)]
    sizes: tuple[HashSize, ...] = (256, 384, 512)
    for bits in sizes if candidates else ():
        digest = _digest(found, bits)
        for key in candidates:
            if _is_by(key, found.signature, digest, bits):
                return LegacyVerdict(key, bits, digest)
    return None


def _is_by(key: PublicKey, signature: bytes, digest: bytes, bits: HashSize) -> bool:
    if not isinstance(key.raw, rsa.RSAPublicKey):
        return False
    algorithm = hash_of(bits)
    try:
        key.raw.verify(
            signature, digest, padding.PSS(padding.MGF1(algorithm), padding.PSS.MAX_LENGTH), utils.Prehashed(algorithm)
        )
    except InvalidSignature:
        return False
    return True


def _digest(found: LegacyFile, bits: HashSize) -> bytes:
    digest = hashlib.new(f"sha{bits}")
    with storage_errors(f"Reading {found.path}"), found.path.open("rb") as file:
        for chunk in _limited(file, found.data_size):
            digest.update(chunk)
    return digest.digest()


def _limited(file: io.BufferedReader, size: int) -> Iterator[bytes]:
    while size and (chunk := file.read(min(size, _STEP))):
        size -= len(chunk)
        yield chunk


def unbox_legacy(found: LegacyFile, target: Path, verdict: LegacyVerdict | None) -> list[str]:
    """Unbox a legacy file into the new folder `target`; returns the paths.

    With a verdict, what is decompressed is hashed once more and must be what was verified. Raises BadFileError for
    everything hostile, VerificationError for a changed file, ConflictError; nothing is left at `target` then.
    """
    with storage_errors(f"Reading {found.path}"), found.path.open("rb") as file, staged_folder(target) as stage:
        source = _Source(file, found.data_size, verdict)
        written = _write(source, TreeWriter(stage), stage, found.path)
        source.finish()
    return written


def _write(source: _Source, tree: TreeWriter, stage: Path, path: Path) -> list[str]:
    first = source.read(_tar.BLOCK)
    if len(first) < _tar.BLOCK or not is_tar(first):
        name = check_path(path.stem or "content")
        tree.write(name, source.rest(first), executable=False)
        source.check_size()
        return [name]
    source.push_back(first)
    written = []
    for member, content in read_members(source.read):
        if member.is_folder:
            (stage / member.path).mkdir(parents=True, exist_ok=True)
        else:
            tree.write(member.path, content, executable=member.executable)
            written.append(member.path)
    return written


class _Source:
    """The decompressed bytes of the data part, with a bound on how much they may grow."""

    def __init__(self, file: io.BufferedReader, size: int, verdict: LegacyVerdict | None) -> None:
        head = file.read(min(size, _FRAME_HEADER))
        file.seek(0)
        self._promised = _content_size(head)
        self._raw = _limited(file, size)
        self._verdict = verdict
        self._hash = hashlib.new(f"sha{verdict.bits if verdict else 256}")
        self._limit = max(_FREE_GROWTH, _MAX_GROWTH * size)
        self._given = 0
        self._back = b""
        reader: Any = _RawReader(self._next)
        self._stream = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW).stream_reader(
            reader, read_across_frames=True
        )

    def _next(self) -> bytes:
        chunk = next(self._raw, b"")
        self._hash.update(chunk)
        return chunk

    def push_back(self, data: bytes) -> None:
        """Give these bytes again at the next read."""
        self._back = data

    def read(self, size: int) -> bytes:
        """That many bytes, or what is left."""
        data, self._back = self._back[:size], self._back[size:]
        try:
            while len(data) < size and (more := self._stream.read(size - len(data))):
                data += more
                self._given += len(more)
        except zstandard.ZstdError as error:
            raise BadFileError(f"The data do not decompress: {error}.") from None
        if self._given > self._limit:
            raise BadFileError(f"The data grow beyond {self._limit} bytes, far more than their compressed size.")
        return data

    def rest(self, first: bytes) -> Iterator[bytes]:
        """`first`, and all that follows."""
        while first:
            yield first
            first = self.read(_STEP)

    def check_size(self) -> None:
        """Raises BadFileError unless all was read that the frame promised; a tar stream has an end mark instead."""
        if self._given != self._promised:
            promised = "an unknown number" if self._promised < 0 else self._promised
            raise BadFileError(f"The data give {self._given} bytes; {promised} were promised. The file is cut short.")

    def finish(self) -> None:
        """Read what is left of the file. Raises VerificationError when it is not what was verified."""
        while self._next():
            pass
        if self._verdict and self._hash.digest() != self._verdict.digest:
            raise VerificationError("The file changed while it was unboxed.")


def _content_size(head: bytes) -> int:
    """The content size a zstd frame header tells, or -1."""
    try:
        return zstandard.frame_content_size(head)
    except zstandard.ZstdError:
        return -1


class _RawReader:
    """Lets zstandard read from a function that gives chunks."""

    def __init__(self, more: Callable[[], bytes]) -> None:
        self._more = more
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        """Some bytes, at most `size`; none at the end."""
        self._left = self._left or self._more()
        end = len(self._left) if size < 0 else size
        data, self._left = self._left[:end], self._left[end:]
        return data
