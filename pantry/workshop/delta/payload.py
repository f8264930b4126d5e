"""The file of a delta that holds the coded blocks and their index.

    magic "PDELTA1\\n" | coded blocks and factors, one after the other | index: JSON in one zstd frame | footer

Footer: offset, stored length and plain length of the index (u64 each), SHA-256 of the stored index, magic "PDELTAE\\n".
The index comes last so that the file is written in one pass.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import Annotated, BinaryIO, Literal

import zstandard
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.dataclasses import dataclass

from pantry.core.errors import BadFileError
from pantry.flatpack.manifest import InnerPath
from pantry.formats.dtypes import element_of
from pantry.formats.layout import OpenFile
from pantry.workshop.delta.codec import BLOCK_BYTES, decompress

PAYLOAD_NAME = "weights.pdelta"
MAGIC, END_MAGIC = b"PDELTA1\n", b"PDELTAE\n"
FOOTER = struct.Struct("<QQQ32s8s")
MAX_INDEX = 64 << 20  # bytes of JSON; a piece takes about 300, so this does for a terabyte in 100,000 tensors
MAX_PARTS = 3 << 20
"""Values in the JSON, by its commas: a piece has about a dozen and a block two, and each takes memory."""
MAX_RATIO = 20
"""Plain over stored bytes of an index beyond its first 4 MiB; each piece has a digest, which does not compress."""
RAW_BLOCK = 4 << 20
"""Bytes of a stretch that is not a tensor (header, tokenizer, ...) coded at a time."""
MAX_RANK = 4096
MAX_FACTOR = 64 << 20
"""Bytes of one factor, in memory while its tensor is worked on; rank 512 on 28,672 columns takes 59 MB in f32."""

Op = Literal["copy", "sub", "lowrank", "full", "stored", "patch"]
"""Tensors: `copy` of the base, `sub` difference from it, `lowrank` with factors, `full` on its own. Other bytes:
`copy` from a base file, `stored` compressed, `patch` compressed with the base's bytes as dictionary."""
Sha256Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**62)]


_CHECKED = ConfigDict(extra="forbid", strict=True)
"""For what an index has by the hundred thousand: dataclasses with slots, a fifth of the memory of models."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(config=_CHECKED, frozen=True, slots=True, kw_only=True)
class Block:
    """A coded block: its bytes in the payload and their CRC-32."""

    length: Count
    crc: int = Field(ge=0, lt=2**32)


@dataclass(config=_CHECKED, frozen=True, slots=True, kw_only=True)
class BaseTensor:
    """The base tensor a piece starts from, at its first element."""

    tensor: str
    dtype: str


@dataclass(config=_CHECKED, frozen=True, slots=True, kw_only=True)
class BaseBytes:
    """The bytes of a base file that a piece copies or takes as dictionary."""

    file: InnerPath
    start: Count = 0
    length: Count


class StoredFactors(_Part):
    """The factors of a low-rank change; `blocks` are up [rows, rank] and down [rank, columns]."""

    dtype: Literal["f64", "f32", "f16", "bf16"]
    rows: int = Field(gt=0, lt=2**31)
    columns: int = Field(gt=0, lt=2**31)
    rank: int = Field(gt=0, le=MAX_RANK)
    scale: float = Field(allow_inf_nan=False)
    merge: Literal["sum", "rounded"]
    blocks: tuple[Block, Block]


@dataclass(config=_CHECKED, frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of a result file: a tensor, part of one, or other bytes (`name` is None then)."""

    name: str | None = None
    dtype: str = "bytes"
    shape: tuple[Count, ...] = ()
    length: int = Field(gt=0, lt=2**62)
    op: Op
    base: BaseTensor | BaseBytes | None = None
    factors: StoredFactors | None = None
    digest: Sha256Hex = Field(description="Of the result file from its first byte to the end of this piece.")
    blocks: tuple[Block, ...] = ()
    change: float | None = Field(None, description="Norm of the change over norm of the base, on a sample.")

    @property
    def block_size(self) -> int:
        """Bytes of the result in each block but the last."""
        return BLOCK_BYTES if self.name is not None else RAW_BLOCK

    @property
    def stored(self) -> int:
        """Bytes it takes in the payload."""
        factors = sum(block.length for block in self.factors.blocks) if self.factors else 0
        return factors + sum(block.length for block in self.blocks)


class ResultFile(_Part):
    """A file of the result: its pieces in order fill it."""

    path: InnerPath
    size: Count
    digest: Sha256Hex
    format: str
    pieces: tuple[Piece, ...]


class BaseTerms(_Part):
    """Under what terms the base can be had, to be shown before anything asks for it."""

    licence: str | None = Field(default=None, max_length=500)
    terms: str | None = Field(default=None, max_length=4000)


class Index(_Part):
    """What the payload holds."""

    files: tuple[ResultFile, ...] = Field(min_length=1)
    base: BaseTerms = BaseTerms()

    @property
    def size(self) -> int:
        """Bytes of the result."""
        return sum(file.size for file in self.files)


class PayloadWriter:
    """Appends coded blocks to an open file, and the index at the end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._at = file, len(MAGIC)
        file.write(MAGIC)

    def add(self, coded: bytes) -> Block:
        """Append one coded block."""
        self._file.write(coded)
        self._at += len(coded)
        return Block(length=len(coded), crc=zlib.crc32(coded))

    def finish(self, index: Index) -> None:
        """Write the index and the footer."""
        plain = index.model_dump_json(exclude_none=True, exclude_defaults=True).encode()
        if len(plain) > MAX_INDEX:
            raise BadFileError(f"The index of this delta would have {len(plain)} bytes; at most {MAX_INDEX} fit.")
        packed = zstandard.ZstdCompressor(level=9).compress(plain)
        self._file.write(packed)
        self._file.write(FOOTER.pack(self._at, len(packed), len(plain), hashlib.sha256(packed).digest(), END_MAGIC))


class Payload:
    """An open payload: its checked index, and its blocks by position."""

    def __init__(self, file: OpenFile) -> None:
        self.file = file
        self.index = _read_index(file)

    def read(self, start: int, block: Block) -> bytes:
        """One coded block. Raises BadFileError when its checksum is wrong."""
        coded = self.file.read(start, block.length)
        if zlib.crc32(coded) != block.crc:
            raise BadFileError(f"{self.file.path.name} is damaged at byte {start}.", hint="Fetch the delta again.")
        return coded

    def placed(self) -> Iterator[tuple[ResultFile, list[tuple[Piece, int]]]]:
        """Each result file with its pieces, and where in the payload each piece begins."""
        at = len(MAGIC)
        for result in self.index.files:
            found = []
            for piece in result.pieces:
                found.append((piece, at))
                at += piece.stored
            yield result, found


def _read_index(file: OpenFile) -> Index:
    name = file.path.name
    if file.size < len(MAGIC) + FOOTER.size or file.read(0, len(MAGIC)) != MAGIC:
        raise BadFileError(f"{name} is not a delta payload: it does not start with {MAGIC!r}.")
    offset, packed, plain, digest, magic = FOOTER.unpack(file.read(file.size - FOOTER.size, FOOTER.size))
    if magic != END_MAGIC or offset + packed + FOOTER.size != file.size or offset < len(MAGIC):
        raise BadFileError(f"{name} is cut short or damaged: its end is not that of a payload.", hint="Fetch it again.")
    if max(packed, plain) > min(MAX_INDEX, MAX_RATIO * packed + RAW_BLOCK):
        raise BadFileError(f"{name}: the index claims {plain} bytes, {packed} of them stored; that is out of measure.")
    content = file.read(offset, packed)
    if hashlib.sha256(content).digest() != digest:
        raise BadFileError(f"{name} is damaged: the checksum of its index is wrong.", hint="Fetch the delta again.")
    content = decompress(content, plain)
    if content.count(b",") > MAX_PARTS:
        raise BadFileError(f"{name}: the index lists more than {MAX_PARTS} values; that is out of measure.")
    try:
        index = Index.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise BadFileError(f"{name}: the index is wrong at {first['loc']}: {first['msg']}.") from None
    _check(index, offset, name)
    return index


def _check(index: Index, end: int, name: str) -> None:
    """The arithmetic of the index: pieces fill files, blocks fill pieces and the payload."""
    at = len(MAGIC)
    for result in index.files:
        if sum(piece.length for piece in result.pieces) != result.size:
            raise BadFileError(f"{name}: the pieces of {result.path!r} do not fill it.")
        for piece in result.pieces:
            at += piece.stored
            if fault := _fault(piece):
                raise BadFileError(f"{name}: {piece.name or 'a stretch'} of {result.path!r} {fault}.")
    if at != end:
        raise BadFileError(f"{name}: its blocks have {at} bytes, {end} expected.")


def _fault(piece: Piece) -> str | None:
    width = element_of(piece.dtype).width
    wanted = 0 if piece.op == "copy" else -(-piece.length // piece.block_size)
    needs_base = {"copy", "sub", "lowrank"} if piece.name is not None else {"copy", "patch"}
    kind = BaseTensor if piece.name is not None else BaseBytes
    if piece.op not in ({"full"} | needs_base if piece.name is not None else {"stored"} | needs_base):
        return f"has the operation {piece.op!r}, which does not fit it"
    if (piece.op in needs_base) != isinstance(piece.base, kind) or (piece.base and piece.op not in needs_base):
        return f"has a wrong base for {piece.op!r}"
    if len(piece.blocks) != wanted:
        return f"has {len(piece.blocks)} blocks; {wanted} expected"
    if piece.length % width:
        return f"has {piece.length} bytes, not whole elements of {piece.dtype}"
    if (piece.op == "lowrank") != (piece.factors is not None):
        return "has factors without need, or needs them"
    if piece.factors and (fault := _factors_fault(piece.factors, piece.length // width)):
        return fault
    if piece.op == "copy" and isinstance(piece.base, BaseBytes) and piece.base.length != piece.length:
        return "copies bytes of another length"
    return None


def _factors_fault(factors: StoredFactors, elements: int) -> str | None:
    if factors.rows * factors.columns != elements:
        return "has factors of another shape"
    if max(factors.rows, factors.columns) * factors.rank * element_of(factors.dtype).width > MAX_FACTOR:
        return f"has factors larger than {MAX_FACTOR >> 20} MiB"
    return None
