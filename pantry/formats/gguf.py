"""The header of a GGUF file: metadata and tensor table, read with every bound checked. Weights are not touched.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little endian.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeAlias

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors
from pantry.formats.layout import Layout, Tensor

MAGIC = b"GGUF"
MAX_HEADER = 512_000_000  # bytes; the largest known vocabularies need about 20 MB
MAX_ENTRIES = 1_000_000  # metadata keys, or tensors
MAX_KEY = 65_535  # bytes
MAX_STRINGS = 4_000_000  # in one array; the largest known vocabularies have 300,000
MAX_DIMENSIONS = 4
WINDOW = 1 << 20  # bytes read at a time while passing over strings
KEPT_ELEMENTS = 1024
"""Arrays longer than this (vocabularies) are checked and counted, not kept."""

_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
_STRING, _ARRAY = 8, 9

TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4), 1: ("F16", 1, 2), 2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24), 8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 40), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210), 15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74), 18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18), 21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8), 28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56), 30: ("BF16", 1, 2), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17), 40: ("NVFP4", 64, 36), 41: ("Q1_0", 128, 18),
}  # fmt: skip
"""Tensor type number: its name, elements per block, bytes per block."""


@dataclass(frozen=True)
class LongArray:
    """An array that was checked but not kept."""

    count: int


Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | list[Scalar] | LongArray


@dataclass(frozen=True)
class TensorInfo:
    """One row of the tensor table; `offset` counts bytes from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int


@dataclass(frozen=True)
class GGUFHeader:
    """What a GGUF file says of itself. Sizes and offsets are bytes in the file."""

    version: int
    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_start: int
    file_size: int
    key_spans: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    """Where in the file each metadata key begins and its value ends."""

    def text(self, key: str) -> str | None:
        """The string under `key`, or None when it is absent or of another type."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> int | None:
        """The whole number under `key` of this architecture (`block_count`), or under the full key."""
        value = self.metadata.get(f"{self.architecture}.{key}", self.metadata.get(key))
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or "unknown"

    @property
    def name(self) -> str | None:
        return self.text("general.name")

    @property
    def context_length(self) -> int | None:
        """Tokens the model was trained to read."""
        return self.number("context_length")

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template")

    @cached_property
    def parameters(self) -> int:
        """Number of weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)

    @cached_property
    def quantisation(self) -> str:
        """The tensor type that holds most of the weights."""
        totals: dict[str, int] = {}
        for tensor in self.tensors:
            totals[tensor.type] = totals.get(tensor.type, 0) + math.prod(tensor.shape)
        return max(totals, key=lambda name: totals[name]) if totals else "unknown"


def read_header(path: Path) -> GGUFHeader:
    """Read and check the header of the GGUF file at `path`.

    Raises BadFileError with the byte offset when the file is not GGUF, is cut short, or lies about its sizes, and
    StorageError when it cannot be read.
    """
    with storage_errors(f"Reading {path.name}"), path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        return _Reader(file, size, path.name).header()


def read_layout(path: Path) -> Layout:
    """The layout of a GGUF file: its tensors by name, quantised ones as bytes. Raises BadFileError as `read_header`."""
    header = read_header(path)
    tensors = tuple(
        Tensor(row.name, row.type.lower(), tuple(reversed(row.shape)), header.data_start + row.offset, row.size)
        for row in header.tensors
    )
    return Layout("gguf", header.file_size, tensors)


class _Reader:
    """A cursor over the header that refuses to read past the file or the limits."""

    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file, self.size, self.name, self.position = file, size, name, 0

    def header(self) -> GGUFHeader:
        magic = self.bytes(4, "the magic number") if self.size >= 4 else b""
        if magic != MAGIC:
            raise BadFileError(
                f"{self.name} is not a GGUF file: it starts with {magic!r}, not {MAGIC!r}.",
                hint="Pantry runs GGUF files; check that the download is the model and not a page about it.",
            )
        version = self.scalar("<I", "the version")
        if version not in (2, 3):
            self.fail(f"GGUF version {version} is not supported; versions 2 and 3 are")
        tensor_count, key_count = self.count("tensors"), self.count("metadata keys")
        metadata: dict[str, Value] = {}
        spans: dict[str, tuple[int, int]] = {}
        for _ in range(key_count):
            begin = self.position
            key = self.string("a metadata key", MAX_KEY)
            if key in metadata:
                self.fail(f"the metadata key {key!r} occurs twice")
            metadata[key] = self.value(int(self.scalar("<I", f"the type of {key!r}")), key)
            spans[key] = begin, self.position
        rows = [self.tensor_row() for _ in range(tensor_count)]
        start = self._data_start(metadata.get("general.alignment", 32), bool(rows))
        header = GGUFHeader(int(version), metadata, tuple(rows), start, self.size, spans)
        self._check_tensors(header)
        return header

    def _data_start(self, alignment: Value, has_tensors: bool) -> int:
        if isinstance(alignment, bool) or not isinstance(alignment, int) or not 1 <= alignment <= 2**20:
            self.fail(f"the alignment {alignment!r} is out of range")
        start = -(-self.position // alignment) * alignment
        if has_tensors and start > self.size:
            self.fail("the file ends before its tensor data")
        return start

    def _check_tensors(self, header: GGUFHeader) -> None:
        available = self.size - header.data_start
        seen: set[str] = set()
        for tensor in header.tensors:
            if tensor.name in seen:
                self.fail(f"the tensor {tensor.name!r} occurs twice")
            seen.add(tensor.name)
            if tensor.offset + tensor.size > available:
                raise BadFileError(
                    f"{self.name} is cut short or damaged: tensor {tensor.name!r} ends at byte "
                    f"{header.data_start + tensor.offset + tensor.size}, the file at byte {self.size}.",
                    hint="Fetch the file again.",
                )

    def tensor_row(self) -> TensorInfo:
        name = self.string("a tensor name", MAX_KEY)
        dimensions = int(self.scalar("<I", f"the dimensions of {name!r}"))
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            self.fail(f"tensor {name!r} has {dimensions} dimensions; at most {MAX_DIMENSIONS} are allowed")
        shape = tuple(int(self.scalar("<Q", f"the shape of {name!r}")) for _ in range(dimensions))
        number = int(self.scalar("<I", f"the type of {name!r}"))
        if number not in TENSOR_TYPES:
            self.fail(f"tensor {name!r} has the unknown type {number}")
        kind, block, block_bytes = TENSOR_TYPES[number]
        elements = math.prod(shape)
        if not 0 < elements < 2**60 or (shape and shape[0] % block):
            self.fail(f"tensor {name!r} has the impossible shape {list(shape)} for {kind}")
        offset = int(self.scalar("<Q", f"the offset of {name!r}"))
        return TensorInfo(name, shape, kind, offset, elements // block * block_bytes)

    def value(self, kind: int, key: str) -> Value:
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind], repr(key))
        if kind == _STRING:
            return self.string(repr(key), MAX_HEADER)
        if kind == _ARRAY:
            return self.array(key)
        self.fail(f"the metadata key {key!r} has the unknown type {kind}")

    def array(self, key: str) -> Value:
        kind = int(self.scalar("<I", f"the element type of {key!r}"))
        count = int(self.scalar("<Q", f"the length of {key!r}"))
        keep = count <= KEPT_ELEMENTS
        if kind in _SCALARS:
            width = struct.calcsize(_SCALARS[kind])
            if not keep:
                self.skip(count * width, repr(key))
                return LongArray(count)
            return [self.scalar(_SCALARS[kind], repr(key)) for _ in range(count)]
        if kind != _STRING:
            self.fail(f"the array {key!r} has the unsupported element type {kind}")
        if count > MAX_STRINGS or count * 8 > self.size - self.position:
            self.fail(f"{key!r} claims {count} strings, more than the file or a vocabulary can hold")
        if keep:
            return [self.string(repr(key), MAX_HEADER) for _ in range(count)]
        self._pass_strings(count, repr(key))
        return LongArray(count)

    def _pass_strings(self, count: int, what: str) -> None:
        """Pass over an array of strings, a window of the file at a time: a vocabulary has hundreds of thousands."""
        window, at = b"", 0
        for _ in range(count):
            if len(window) - at < 8:
                window, at = window[at:] + self.file.read(WINDOW), 0
                if len(window) < 8:
                    self.fail(f"the file ends inside {what}")
            length = int.from_bytes(window[at : at + 8], "little")
            at += 8
            self._reserve(8 + length, what)
            if at + length > len(window):
                self.file.seek(at + length - len(window), 1)
                window, at = b"", 0
            else:
                at += length
        self.file.seek(self.position)

    def count(self, what: str) -> int:
        count = int(self.scalar("<Q", f"the number of {what}"))
        if count > MAX_ENTRIES:
            self.fail(f"it claims {count} {what}; at most {MAX_ENTRIES} are allowed")
        return count

    def string(self, what: str, limit: int) -> str:
        length = int(self.scalar("<Q", f"the length of {what}"))
        if length > limit:
            self.fail(f"{what} claims {length} bytes; at most {limit} are allowed")
        return self.bytes(length, what).decode("utf-8", "replace")

    def scalar(self, layout: str, what: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(layout, self.bytes(struct.calcsize(layout), what))[0]
        return value

    def skip(self, count: int, what: str) -> None:
        self._reserve(count, what)
        self.file.seek(self.position)

    def bytes(self, count: int, what: str) -> bytes:
        self._reserve(count, what)
        found = self.file.read(count)
        if len(found) != count:
            self.fail(f"the file ends inside {what}")
        return found

    def _reserve(self, count: int, what: str) -> None:
        if self.position + count > self.size:
            self.fail(f"the file ends inside {what} ({self.size} bytes in all)")
        if self.position + count > MAX_HEADER:
            self.fail(f"the header is longer than {MAX_HEADER} bytes")
        self.position += count

    def fail(self, what: str) -> NoReturn:
        raise BadFileError(
            f"{self.name} is cut short or damaged at byte {self.position}: {what}.", hint="Fetch the file again."
        )
