"""Where the tensors lie in a file: the one picture of safetensors, GGUF and PyTorch files that the rest works with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors


@dataclass(frozen=True)
class Tensor:
    """A tensor's name, format, shape (slowest dimension first), and its bytes: `length` of them from `start`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


@dataclass(frozen=True)
class Layout:
    """A file of `size` bytes and its tensors. Tensors that share storage are all listed; other files have none."""

    format: str
    size: int
    tensors: tuple[Tensor, ...] = ()

    def segments(self) -> Iterator[tuple[int, int, Tensor | None]]:
        """The whole file in order as (start, end, tensor); None is what lies between tensors: headers, padding."""
        at = 0
        for tensor in sorted(self.tensors, key=lambda tensor: (tensor.start, -tensor.length, tensor.name)):
            if tensor.start < at or not tensor.length:
                continue
            if tensor.start > at:
                yield at, tensor.start, None
            yield tensor.start, tensor.end, tensor
            at = tensor.end
        if at < self.size:
            yield at, self.size, None


class OpenFile:
    """A file opened for reading ranges, from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(f"Reading {path}"):
            self._descriptor = os.open(path, os.O_RDONLY)
        self.size = os.fstat(self._descriptor).st_size

    def read(self, start: int, length: int) -> bytes:
        """Exactly `length` bytes from `start`. Raises BadFileError when the file is shorter."""
        with storage_errors(f"Reading {self.path}"):
            data = os.pread(self._descriptor, length, start)
            while len(data) < length:
                more = os.pread(self._descriptor, length - len(data), start + len(data))
                if not more:
                    raise BadFileError(
                        f"{self.path} ends at byte {start + len(data)}; bytes to {start + length} were expected.",
                        hint="It was cut short, or changed while it was read.",
                    )
                data += more
        return data

    def close(self) -> None:
        """Close the file; more than once is fine."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
