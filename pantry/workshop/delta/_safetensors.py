"""Tensors of a safetensors file, its header read with every bound checked.

Format: https://github.com/huggingface/safetensors (8 bytes of header length, a JSON header, the data).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NoReturn

from pantry.core.errors import BadFileError
from pantry.workshop.delta.elements import ELEMENTS
from pantry.workshop.delta.layout import Layout, OpenFile, Tensor

MAX_HEADER = 100_000_000  # bytes, the format's own limit
MAX_DIMENSIONS = 64
_DTYPES = {
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "F8_E4M3": "f8_e4m3", "F8_E5M2": "f8_e5m2",
    "I64": "i64", "U64": "u64", "I32": "i32", "U32": "u32", "I16": "i16", "U16": "u16", "I8": "i8", "U8": "u8",
    "BOOL": "bool",
}  # fmt: skip


def read_safetensors(path: Path) -> Layout:
    """The layout of a safetensors file. Raises BadFileError with what is wrong."""
    file = OpenFile(path)
    try:
        return _Header(path.name, file).layout()
    finally:
        file.close()


class _Header:
    def __init__(self, name: str, file: OpenFile) -> None:
        self.name, self.file = name, file

    def layout(self) -> Layout:
        if self.file.size < 8:
            self._fail("it is shorter than its header's length")
        length = int.from_bytes(self.file.read(0, 8), "little")
        if length > MAX_HEADER or 8 + length > self.file.size:
            self._fail(f"its header claims {length} bytes; the file has {self.file.size}")
        try:
            rows = json.loads(self.file.read(8, length), object_pairs_hook=self._unique)
        except (ValueError, RecursionError) as error:
            self._fail(f"its header is not valid JSON ({error})")
        if not isinstance(rows, dict):
            self._fail("its header is not a JSON object")
        rows.pop("__metadata__", None)
        tensors = tuple(self._tensor(name, row, 8 + length) for name, row in rows.items())
        self._check_no_overlap(tensors)
        return Layout("safetensors", self.file.size, tensors)

    def _unique(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            self._fail("its header names a tensor twice")
        return found

    def _tensor(self, name: str, row: Any, data: int) -> Tensor:
        try:
            dtype, shape, (start, end) = str(row["dtype"]), tuple(row["shape"]), row["data_offsets"]
            numbers = [*shape, start, end]
        except (TypeError, KeyError, ValueError):
            self._fail(f"tensor {name!r} has no proper dtype, shape and data_offsets")
        if not all(isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 2**63 for n in numbers):
            self._fail(f"tensor {name!r} has a shape or offset that is no whole number, or too large")
        if len(shape) > MAX_DIMENSIONS:
            self._fail(f"tensor {name!r} has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are read")
        if not start <= end <= self.file.size - data:
            self._fail(f"tensor {name!r} ends at byte {data + end}, the file at byte {self.file.size}")
        known = ELEMENTS.get(_DTYPES.get(dtype, ""))
        if known and math.prod(shape) * known.width != end - start:
            self._fail(f"tensor {name!r} of shape {list(shape)} and {dtype} does not fill {end - start} bytes")
        return Tensor(name, known.name if known else dtype.lower(), shape, data + start, end - start)

    def _check_no_overlap(self, tensors: tuple[Tensor, ...]) -> None:
        at, before = 0, ""
        for tensor in sorted(tensors, key=lambda tensor: tensor.start):
            if tensor.length and tensor.start < at:
                self._fail(f"tensors {before!r} and {tensor.name!r} overlap")
            if tensor.length:
                at, before = tensor.end, tensor.name

    def _fail(self, what: str) -> NoReturn:
        raise BadFileError(f"{self.name} is damaged or no safetensors file: {what}.", hint="Fetch the file again.")
