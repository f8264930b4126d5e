"""Reads the content of frames in order, ahead of need, in threads; and compares it with what it must be."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from pantry.core.errors import BadFileError, VerificationError
from pantry.flatpack.archive._frames import decode
from pantry.flatpack.statement import Frame


@dataclass(frozen=True, slots=True)
class Placed:
    """A frame with where its bytes lie in the file and where its content lies in the stream."""

    number: int
    frame: Frame
    offset: int
    start: int

    @property
    def end(self) -> int:
        """Where its content ends in the stream."""
        return self.start + self.frame.content


def place(frames: Iterable[Frame]) -> list[Placed]:
    """The frames with their offsets in the file and in the stream."""
    placed, offset, start = [], 0, 0
    for number, frame in enumerate(frames):
        placed.append(Placed(number, frame, offset, start))
        offset += frame.size
        start += frame.content
    return placed


def read_exactly(descriptor: int, size: int, offset: int) -> bytes:
    """`size` bytes at `offset`. Raises BadFileError when the file ends before."""
    data = os.pread(descriptor, size, offset)
    while len(data) < size:
        more = os.pread(descriptor, size - len(data), offset + len(data))
        if not more:
            raise BadFileError(f"The file ends at byte {offset + len(data)}; byte {offset + size} was expected.")
        data += more
    return data


def checked_frame(descriptor: int, placed: Placed) -> bytes:
    """The compressed bytes of a frame. Raises VerificationError when they are not the ones in the statement."""
    data = read_exactly(descriptor, placed.frame.size, placed.offset)
    if hashlib.sha256(data).hexdigest() != placed.frame.digest.hex:
        raise VerificationError(
            f"Frame {placed.number} (bytes {placed.offset} to {placed.offset + placed.frame.size}) was changed."
        )
    return data


def content_of(descriptor: int, placed: Placed) -> bytes:
    """The content of a frame, its compressed bytes checked first."""
    return decode(checked_frame(descriptor, placed), placed.frame.content)


def contents(descriptor: int, frames: Iterable[Placed], workers: int) -> Generator[tuple[int, bytes], None, None]:
    """`(start in the stream, content)` of each frame, in order; a few frames are decoded ahead."""
    with ThreadPoolExecutor(workers, "frame") as pool:
        ahead: deque[tuple[int, Future[bytes]]] = deque()
        try:
            for placed in frames:
                ahead.append((placed.start, pool.submit(content_of, descriptor, placed)))
                if len(ahead) > workers:
                    start, future = ahead.popleft()
                    yield start, future.result()
            while ahead:
                start, future = ahead.popleft()
                yield start, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


class Stream:
    """The tar stream, read forward, with jumps over what is not wanted."""

    def __init__(self, chunks: Iterator[tuple[int, bytes]]) -> None:
        self._chunks = chunks
        self._start = 0
        self._chunk = memoryview(b"")
        self.position = 0

    def seek(self, position: int) -> None:
        """Go forward to `position`; chunks between are dropped."""
        while position >= self._start + len(self._chunk):
            found = next(self._chunks, None)
            if found is None:
                if position == self._start + len(self._chunk):
                    break
                raise BadFileError(f"The stream ends at byte {self._start + len(self._chunk)} of {position}.")
            self._start, self._chunk = found[0], memoryview(found[1])
        if position < self._start:
            raise BadFileError(f"The stream has a gap at byte {position}.")
        self.position = position

    def take(self, size: int) -> Iterator[memoryview]:
        """The next `size` bytes, in pieces."""
        while size:
            self.seek(self.position)
            at = self.position - self._start
            piece = self._chunk[at : at + size]
            if not piece:
                raise BadFileError(f"The stream ends at byte {self.position}; {size} bytes more were expected.")
            self.position += len(piece)
            size -= len(piece)
            yield piece

    def read(self, size: int) -> bytes:
        """The next `size` bytes, which must be few."""
        return b"".join(self.take(size))
