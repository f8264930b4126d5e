"""GGUF models in several files, `name-00001-of-00003.gguf`, as llama.cpp's gguf-split writes them: joined into one.

Each part is a GGUF file with some of the tensors; the first has all the metadata. `split.no`, `split.count` and
`split.tensors.count` say what belongs together (gguf-split of llama.cpp). A joined file has the metadata of the first
part without these three, and the tensors in the order of the parts.
"""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.formats.gguf import MAGIC, TENSOR_TYPES, GGUFHeader, TensorInfo, read_header

MAX_PARTS = 1000
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)
_SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
_NUMBERS = {name: number for number, (name, _, _) in TENSOR_TYPES.items()}
_READ = 1 << 20


@dataclass(frozen=True)
class PartName:
    """The name of one part, taken apart; `number` counts from 1."""

    stem: str
    number: int
    count: int

    @property
    def all(self) -> list[str]:
        """The names of all parts, in order."""
        return [f"{self.stem}-{number:05}-of-{self.count:05}.gguf" for number in range(1, self.count + 1)]

    @property
    def whole(self) -> str:
        """The name of the joined file."""
        return f"{self.stem}.gguf"


def part_name(name: str) -> PartName | None:
    """The parts of a file name or path that says it is one of several; None for others. Raises BadFileError."""
    found = _PART.fullmatch(name)
    if found is None or int(found["count"]) < 2:
        return None
    part = PartName(found["stem"], int(found["number"]), int(found["count"]))
    if not 1 <= part.number <= part.count <= MAX_PARTS:
        raise BadFileError(f"{name} cannot be: it would be part {part.number} of {part.count}.")
    return part


def parts_beside(file: Path) -> list[Path]:
    """All parts of the model that `file` is one part of; only `file` if it is whole. Raises BadFileError."""
    part = part_name(file.name)
    if part is None:
        return [file]
    found = [file.with_name(name) for name in part.all]
    for each in found:
        if not each.is_file():
            raise BadFileError(f"{each.name} is missing: the model is in {part.count} files, all of which are needed.")
    return found


def join(parts: Sequence[Path], out: BinaryIO, progress: Progress | None = None) -> Digest:
    """Write the parts, in order, as one model; its digest.

    Raises BadFileError when they are damaged or do not belong together, StorageError.
    """
    headers = [read_header(part) for part in parts]
    _check(headers)
    first = headers[0]
    alignment = first.metadata.get("general.alignment", 32)
    step = alignment if isinstance(alignment, int) else 32
    writer = _Writer(out, sum(header.file_size for header in headers), progress)
    keys = [key for key in first.key_spans if key not in _SPLIT_KEYS]
    tensors = [tensor for header in headers for tensor in header.tensors]
    writer.write(MAGIC + struct.pack("<IQQ", first.version, len(tensors), len(keys)))
    with storage_errors(f"Joining {parts[0].name}"):
        with parts[0].open("rb") as file:
            for key in keys:
                begin, end = first.key_spans[key]
                writer.copy(file, begin, end - begin)
        offset = 0
        for tensor in tensors:
            writer.write(_row(tensor, offset))
            offset += -(-tensor.size // step) * step
        writer.pad(step)
        for part, header in zip(parts, headers, strict=True):
            with part.open("rb") as file:
                for tensor in header.tensors:
                    writer.copy(file, header.data_start + tensor.offset, tensor.size)
                    writer.pad(step)
    return Digest(writer.hasher.hexdigest())


def _check(headers: Sequence[GGUFHeader]) -> None:
    """Raises BadFileError unless the parts say of themselves that they are these, in this order, and all."""
    for number, header in enumerate(headers):
        found = [header.metadata.get(key) for key in _SPLIT_KEYS[:2]]
        if found != [number, len(headers)]:
            raise BadFileError(
                f"Part {number + 1} of {len(headers)} says of itself that it is number {found[0]} of {found[1]}."
            )
    names = [tensor.name for header in headers for tensor in header.tensors]
    wanted = headers[0].metadata.get("split.tensors.count")
    if len(set(names)) != len(names) or len(names) != wanted:
        raise BadFileError(f"The first part says that {wanted} tensors belong together; the parts have {len(names)}.")


def _row(tensor: TensorInfo, offset: int) -> bytes:
    name, shape = tensor.name.encode(), tensor.shape
    head = struct.pack("<Q", len(name)) + name
    return head + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, _NUMBERS[tensor.type], offset)


class _Writer:
    """Writes, hashes and counts."""

    def __init__(self, out: BinaryIO, total: int, progress: Progress | None) -> None:
        self.hasher, self.length = hashlib.sha256(), 0
        self._out, self._total, self._progress = out, total, progress

    def write(self, data: bytes) -> None:
        self._out.write(data)
        self.hasher.update(data)
        self.length += len(data)

    def pad(self, step: int) -> None:
        self.write(bytes(-self.length % step))

    def copy(self, file: BinaryIO, start: int, count: int) -> None:
        file.seek(start)
        while count:
            data = file.read(min(_READ, count))
            if not data:
                raise BadFileError(f"{file.name} was cut short while it was read.")
            self.write(data)
            count -= len(data)
            if self._progress:
                self._progress(min(self.length, self._total), self._total)
