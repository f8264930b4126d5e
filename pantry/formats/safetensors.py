"""The header of a safetensors file, with every bound checked. Tensors are not touched.

Format: https://github.com/huggingface/safetensors#format: eight bytes with the header's length, a JSON header, the
tensors without gap or overlap.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors
from pantry.formats.layout import Layout, Tensor

MAX_HEADER = 100_000_000  # bytes, the format's own limit
MAX_TENSORS = 1_000_000
MAX_DIMENSIONS = 16

DTYPE_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64,
    "C64": 64, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip
"""Bits per element of every known data type."""


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a safetensors file says of itself. Tensors are in the header's order, data types in lower case."""

    tensors: tuple[Tensor, ...]
    metadata: dict[str, str]
    data_start: int
    file_size: int

    @property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


def read_header(path: Path) -> SafetensorsHeader:
    """Read and check the header of the safetensors file at `path`.

    Raises BadFileError with the byte or tensor where the file is cut short or lies, StorageError if it is unreadable.
    """
    with storage_errors(f"Reading {path.name}"), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        announced = file.read(8)
        length = int.from_bytes(announced, "little")
        if len(announced) < 8 or length > MAX_HEADER or 8 + length > size:
            _fail(path, f"byte 0 announces a header of {length} bytes; the file has {size}")
        content = file.read(length)
    if not content.startswith(b"{"):
        _fail(path, "byte 8 does not start a JSON object")
    try:
        document = json.loads(content.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        _fail(path, f"its header is not JSON: {str(error)[:200]}")
    metadata = document.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _fail(path, "__metadata__ must hold texts")
    if len(document) > MAX_TENSORS:
        _fail(path, f"it lists {len(document)} tensors; at most {MAX_TENSORS} are allowed")
    start = 8 + length
    tensors = tuple(_tensor(path, name, row, start) for name, row in document.items())
    _check_cover(path, sorted(tensors, key=lambda tensor: (tensor.start, tensor.end)), start, size)
    return SafetensorsHeader(tensors, metadata, start, size)


def read_layout(path: Path) -> Layout:
    """The layout of a safetensors file. Raises BadFileError as `read_header`."""
    header = read_header(path)
    return Layout("safetensors", header.file_size, header.tensors)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, count in counts.items() if count > 1)
        raise ValueError(f"the key {twice[:80]!r} occurs twice")
    return found


def _tensor(path: Path, name: str, row: object, data_start: int) -> Tensor:
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        _fail(path, f"tensor {name[:80]!r} must have dtype, shape and data_offsets")
    dtype, shape, offsets = row["dtype"], row["shape"], row["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        _fail(path, f"tensor {name[:80]!r} has the unknown data type {str(dtype)[:40]!r}")
    if not _counts(shape) or len(shape) > MAX_DIMENSIONS or not _counts(offsets) or len(offsets) != 2:
        _fail(path, f"tensor {name[:80]!r} has an impossible shape or range")
    begin, end = offsets
    bits = math.prod(shape) * DTYPE_BITS[dtype]
    if bits % 8 or end - begin != bits // 8:
        _fail(path, f"tensor {name[:80]!r} needs {bits / 8:g} bytes, its range {begin} to {end} has {end - begin}")
    return Tensor(name, dtype.lower(), tuple(shape), data_start + begin, end - begin)


def _counts(value: object) -> bool:
    return isinstance(value, list) and all(type(each) is int and 0 <= each < 2**60 for each in value)


def _check_cover(path: Path, tensors: list[Tensor], data_start: int, size: int) -> None:
    position = data_start
    for tensor in tensors:
        if tensor.start != position:
            kind = "overlaps the one before" if tensor.start < position else "leaves a gap before it"
            _fail(path, f"tensor {tensor.name[:80]!r} {kind}, at byte {tensor.start - data_start} of the data")
        position = tensor.end
    if position != size:
        _fail(
            path, f"its tensors end at byte {position - data_start} of the data, the data at byte {size - data_start}"
        )


def _fail(path: Path, what: str) -> NoReturn:
    raise BadFileError(f"{path.name} is cut short or damaged: {what}.", hint="Fetch the file again.")
