"""Writes the payload of a delta: every piece of every target file, coded against the base."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from pantry.core.errors import UsageError, did_you_mean
from pantry.core.files import staged_file
from pantry.core.progress import Progress
from pantry.formats.dtypes import element_of
from pantry.workshop.delta._pipeline import in_order
from pantry.workshop.delta.adapter import Factors
from pantry.workshop.delta.codec import BLOCK_BYTES, encode
from pantry.workshop.delta.payload import (
    RAW_BLOCK,
    BaseBytes,
    BaseTensor,
    BaseTerms,
    Block,
    Index,
    PayloadWriter,
    Piece,
    ResultFile,
    StoredFactors,
)
from pantry.workshop.delta.plan import PlannedPiece, Planner
from pantry.workshop.delta.sources import THREADS, Source, SourceFile
from pantry.workshop.delta.stretch import pack

_AHEAD = THREADS + 1  # blocks in memory beside the one being written


@dataclass(frozen=True)
class _Coded:
    """One block: its plain bytes, and what is stored; nothing where the base already says it."""

    piece: PlannedPiece
    plain: bytes
    coded: bytes
    last: bool


@dataclass
class _Open:
    """What is known of the file being written, and of its last piece."""

    whole: hashlib._Hash = field(default_factory=hashlib.sha256)
    pieces: list[Piece] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    factors: tuple[Block, Block] | None = None


def write_payload(
    planner: Planner, target: Source, out: Path, *, base: BaseTerms, progress: Progress | None = None
) -> Index:
    """Write the payload that turns the planner's base into `target` to `out`, in one pass; its index.

    Raises UsageError when a rename or the adapter names no tensor, and StorageError.
    """
    _check_names(planner, target)
    total, done = sum(file.layout.size for file in target.files), 0
    results = []
    with staged_file(out) as opened, ThreadPoolExecutor(THREADS) as pool:
        writer = PayloadWriter(opened)
        try:
            for file in target.files:
                state = _Open()
                planned = in_order(pool, planner.choose, planner.outline(file), _AHEAD)
                for block in in_order(pool, _encode, _blocks(planner.base, planned), _AHEAD):
                    _write(block, state, writer)
                    done += len(block.plain)
                    if progress:
                        progress(done, total)
                results.append(_result(file, state))
            index = Index(files=tuple(results), base=base)
            writer.finish(index)
        finally:
            pool.shutdown(cancel_futures=True)
    return index


def _check_names(planner: Planner, target: Source) -> None:
    for new, old in planner.renames.items():
        for name, source, what in ((new, target, "target"), (old, planner.base, "base")):
            if name not in source.tensors:
                raise UsageError(f"The {what} has no tensor {name!r}.", hint=did_you_mean(name, source.tensors))
    if planner.adapter and not set(planner.adapter.names) & set(target.tensors):
        name = planner.adapter.names[0]
        raise UsageError(
            f"The adapter changes {name!r} and others, none of which the target has.",
            hint=did_you_mean(name, target.tensors),
        )


def _blocks(base: Source, planned: Iterator[PlannedPiece]) -> Iterator[partial[_Coded]]:
    """The work of every block in order."""
    for piece in planned:
        size = BLOCK_BYTES if piece.name is not None else RAW_BLOCK
        for start in range(0, piece.length, size):
            length = min(size, piece.length - start)
            work = _encode_tensor if piece.name is not None else partial(_encode_stretch, base)
            yield partial(work, piece, start, length)


def _encode(work: partial[_Coded]) -> _Coded:
    return work()


def _encode_tensor(piece: PlannedPiece, start: int, length: int) -> _Coded:
    plain = piece.read(start, length)
    width = piece.element.width
    predicted = piece.prediction.words(start // width, length // width) if piece.prediction else None
    coded = encode(np.frombuffer(plain, piece.element.words), predicted, piece.element)
    return _Coded(piece, plain, coded, start + length == piece.length)


def _encode_stretch(base: Source, piece: PlannedPiece, start: int, length: int) -> _Coded:
    plain = piece.read(start, length)
    known = piece.base if isinstance(piece.base, BaseBytes) else None
    file = base.by_path[known.file] if known else None
    coded = pack(plain, start, known, file, known is not None and known.length == piece.length)
    return _Coded(piece, plain, coded, start + length == piece.length)


def _write(block: _Coded, state: _Open, writer: PayloadWriter) -> None:
    piece = block.piece
    if piece.factors and state.factors is None:
        state.factors = _write_factors(piece.factors, writer)
    state.whole.update(block.plain)
    state.blocks.append(writer.add(block.coded))
    if block.last:
        state.pieces.append(_finished(piece, state))
        state.blocks, state.factors = [], None


def _write_factors(factors: Factors, writer: PayloadWriter) -> tuple[Block, Block]:
    element = element_of(factors.dtype)
    up, down = (
        writer.add(encode(np.ascontiguousarray(matrix).reshape(-1), None, element))
        for matrix in (factors.up, factors.down)
    )
    return up, down


def _finished(piece: PlannedPiece, state: _Open) -> Piece:
    """The index entry of a piece whose last block is written."""
    op, base, blocks = piece.op, piece.base, tuple(state.blocks)
    if piece.name is None and isinstance(base, BaseBytes):
        op = "patch"
    if op in ("sub", "patch") and not sum(block.length for block in blocks):
        op, blocks = "copy", ()
    return Piece(
        name=piece.name,
        dtype=piece.element.name,
        shape=piece.shape,
        length=piece.length,
        op=op,
        base=base if isinstance(base, BaseTensor | BaseBytes) else None,
        factors=_stored_factors(piece, state.factors),
        digest=state.whole.copy().hexdigest(),
        blocks=blocks,
        change=piece.change,
    )


def _stored_factors(piece: PlannedPiece, blocks: tuple[Block, Block] | None) -> StoredFactors | None:
    if piece.factors is None or blocks is None:
        return None
    factors = piece.factors
    return StoredFactors.model_validate(
        {
            "dtype": factors.dtype,
            "rows": len(factors.up),
            "columns": factors.down.shape[1],
            "rank": factors.rank,
            "scale": factors.scale,
            "merge": piece.merge,
            "blocks": blocks,
        }
    )


def _result(file: SourceFile, state: _Open) -> ResultFile:
    return ResultFile(
        path=file.path,
        size=file.layout.size,
        digest=state.whole.hexdigest(),
        format=file.layout.format,
        pieces=tuple(state.pieces),
    )
