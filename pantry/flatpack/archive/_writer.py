"""Cuts a stream into frames, compresses them in threads, and writes them in order."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import BinaryIO, TypeAlias

from pantry.core.errors import BadFileError
from pantry.core.progress import Meter
from pantry.core.refs import Digest
from pantry.flatpack.archive._frames import encode
from pantry.flatpack.archive._workers import workers_for
from pantry.flatpack.statement import Frame

FRAME_SIZE = 4 << 20
"""Content of one frame, in bytes: large enough to compress well, small enough for many in memory at once."""


class FrameWriter:
    """Takes bytes, gives frames. Use as a context manager; `finish` ends the last frame and waits for all.

    At most `2 + workers` frames are in memory. Hashing of large files runs in a thread of its own, in order.
    """

    def __init__(self, out: BinaryIO, level: int | None) -> None:
        self.frames: list[Frame] = []
        out.flush()
        self._descriptor = out.fileno()
        self._level = level
        workers = workers_for(FRAME_SIZE)
        self._pool = ThreadPoolExecutor(workers, "frame")
        self._hasher = ThreadPoolExecutor(1, "hash")
        self._window = workers + 1
        self._pending: deque[tuple[Future[_Encoded], bytearray, list[Future[None]]]] = deque()
        self._spare: list[bytearray] = []
        self._buffer = bytearray(FRAME_SIZE)
        self._filled = 0
        self._hashes: list[Future[None]] = []

    def __enter__(self) -> FrameWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._hasher.shutdown(cancel_futures=True)

    def write(self, data: bytes) -> None:
        """Append bytes to the stream."""
        view = memoryview(data)
        while view:
            piece = view[: FRAME_SIZE - self._filled]
            self._buffer[self._filled : self._filled + len(piece)] = piece
            self._advance(len(piece))
            view = view[len(piece) :]

    def copy(self, descriptor: int, size: int, path: str, meter: Meter) -> Digest:
        """Append `size` bytes of an open file and return their digest.

        Raises BadFileError when the file has fewer or more bytes than `size`, which is what was seen at first.
        """
        digest, left = hashlib.sha256(), size
        while left:
            view = memoryview(self._buffer)[self._filled : self._filled + min(left, FRAME_SIZE - self._filled)]
            count = os.readv(descriptor, [view])
            if not count:
                raise BadFileError(f"{path!r} became shorter while it was packed.", hint="Pack again when it is still.")
            self._hashes.append(self._hasher.submit(digest.update, view[:count]))
            self._advance(count)
            left -= count
            meter.add(count)
        if os.read(descriptor, 1):
            raise BadFileError(f"{path!r} became longer while it was packed.", hint="Pack again when it is still.")
        return self._hasher.submit(lambda: Digest(digest.hexdigest())).result()

    def end_frame(self) -> None:
        """Close the current frame, if it has content."""
        if not self._filled:
            return
        content = memoryview(self._buffer)[: self._filled]
        self._pending.append((self._pool.submit(_encode, content, self._level), self._buffer, self._hashes))
        self._filled, self._hashes = 0, []
        while len(self._pending) > self._window:
            self._write_oldest()
        self._buffer = self._spare.pop() if self._spare else bytearray(FRAME_SIZE)

    def finish(self) -> None:
        """Close the last frame and write what is pending."""
        self.end_frame()
        while self._pending:
            self._write_oldest()

    def _advance(self, count: int) -> None:
        self._filled += count
        if self._filled == FRAME_SIZE:
            self.end_frame()

    def _write_oldest(self) -> None:
        future, buffer, hashes = self._pending.popleft()
        frame, pieces = future.result()
        _write_all(self._descriptor, pieces)
        self.frames.append(frame)
        wait(hashes)
        self._spare.append(buffer)


_Encoded: TypeAlias = "tuple[Frame, list[bytes | memoryview]]"


def _encode(content: memoryview, level: int | None) -> _Encoded:
    pieces, digest, size = encode(content, level), hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return Frame(size, len(content), Digest(digest.hexdigest())), pieces


def _write_all(descriptor: int, pieces: list[bytes | memoryview]) -> None:
    """Write the pieces of one frame, which are fewer than a single call may take (IOV_MAX, 1024)."""
    left = sum(map(len, pieces)) - os.writev(descriptor, pieces)
    if left:
        rest = memoryview(b"".join(pieces))[-left:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
