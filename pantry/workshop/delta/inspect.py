"""What a delta says of itself: operations, sizes, and which tensors changed most."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pantry.flatpack.manifest import Manifest
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.payload import BaseTerms, Piece


@dataclass(frozen=True)
class PieceReport:
    """One stretch of a result file. `stored` and `size` are bytes; `change` is a share of the base's norm."""

    file: str
    name: str | None
    dtype: str
    shape: tuple[int, ...]
    op: str
    size: int
    stored: int
    change: float | None


@dataclass(frozen=True)
class OperationTotal:
    """All stretches stored by one operation."""

    op: str
    pieces: int
    size: int
    stored: int


@dataclass(frozen=True)
class DeltaReport:
    """A delta's manifest, its stretches, and totals in bytes."""

    manifest: Manifest
    base_terms: BaseTerms
    pieces: tuple[PieceReport, ...]
    size: int
    stored: int

    def totals(self) -> list[OperationTotal]:
        """Per operation, the largest first."""
        found: dict[str, list[PieceReport]] = {}
        for piece in self.pieces:
            found.setdefault(piece.op, []).append(piece)
        totals = [
            OperationTotal(op, len(of), sum(piece.size for piece in of), sum(piece.stored for piece in of))
            for op, of in found.items()
        ]
        return sorted(totals, key=lambda total: -total.stored)

    def most_changed(self, count: int) -> list[PieceReport]:
        """The tensors whose values moved most, by share of the base's norm."""
        moved = [piece for piece in self.pieces if piece.change]
        return sorted(moved, key=lambda piece: -(piece.change or 0.0))[:count]


def report_on(delta: DeltaFolder) -> DeltaReport:
    """The report on an open delta."""
    index = delta.payload.index
    pieces = tuple(_report(file.path, piece) for file in index.files for piece in file.pieces)
    size, stored = sum(file.size for file in index.files), sum(piece.stored for piece in pieces)
    return DeltaReport(delta.manifest, index.base, pieces, size, stored)


def _report(file: str, piece: Piece) -> PieceReport:
    change = 0.0 if piece.op == "copy" and piece.name is not None else piece.change
    return PieceReport(file, piece.name, piece.dtype, piece.shape, piece.op, piece.length, piece.stored, change)


def bars(values: list[float], width: int) -> Iterator[str]:
    """A bar of up to `width` cells per value, the largest one full."""
    highest = max(values, default=0.0)
    for value in values:
        yield "█" * max(1, round(width * value / highest)) if highest else ""
