"""How each stretch of a target file will be stored: which base tensor it is compared with, and by which operation.

The choice between operations is by measured size, on a sample of each tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from pantry.formats.dtypes import CASTABLE, Element, Words, element_of, to_float32
from pantry.formats.layout import Tensor
from pantry.workshop.delta.adapter import Factors, LoraAdapter
from pantry.workshop.delta.codec import encode
from pantry.workshop.delta.payload import BaseBytes, BaseTensor, Op
from pantry.workshop.delta.predict import FromBase, LowRank, Merge, Prediction
from pantry.workshop.delta.sources import Located, Source, SourceFile

BYTES = element_of("bytes")
_WINDOW = 1 << 15  # elements of a sample window
_LEAST_SHARED = 1 << 16
"""Shorter stretches between tensors are stored without the base: it saves next to nothing, and a delta that needs no
base file byte for byte works on the same weights in any other files."""
_GLANCE = 1 << 14  # elements of the first, single window
_MERGES: tuple[Merge, ...] = ("sum", "rounded")
_WORTH = 0.98  # a costlier operation is taken when it stores less than this share of the simpler one
Finder = Callable[["PlannedPiece", Located], Factors | None]
"""Finds low-rank factors for a piece that comes without an adapter."""


@dataclass(frozen=True)
class PlannedPiece:
    """A stretch of a target file and what it is predicted from. `start` is in the file, lengths are in bytes."""

    file: SourceFile
    start: int
    length: int
    name: str | None = None
    shape: tuple[int, ...] = ()
    element: Element = BYTES
    op: Op = "full"
    base: BaseTensor | BaseBytes | None = None
    prediction: Prediction | None = None
    factors: Factors | None = None
    merge: Merge = "sum"
    change: float | None = None

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the target, counted from the piece's beginning."""
        return self.file.file.read(self.start + start, length)

    def words(self, start: int, count: int) -> Words:
        """`count` elements of the target, from element `start` of the piece."""
        width = self.element.width
        return np.frombuffer(self.read(start * width, count * width), self.element.words)

    @property
    def factor_bytes(self) -> int:
        """Bytes of its low-rank factors."""
        return self.factors.up.nbytes + self.factors.down.nbytes if self.factors else 0

    @property
    def count(self) -> int:
        """Elements in the piece."""
        return self.length // self.element.width


@dataclass(frozen=True)
class Planner:
    """Plans pieces against one base. `renames` maps a target tensor's name to its name in the base."""

    base: Source
    adapter: LoraAdapter | None
    renames: Mapping[str, str]
    single: bool
    """Base and target are one file each: they belong together whatever their names."""
    find: Finder | None = None

    def outline(self, file: SourceFile) -> Iterator[PlannedPiece]:
        """The pieces of a file in order, before anything is measured."""
        gaps = self._base_gaps(file)
        for start, end, tensor in file.layout.segments():
            if tensor is None:
                known = next(gaps, None)
                yield PlannedPiece(
                    file, start, end - start, op="stored", base=known if end - start >= _LEAST_SHARED else None
                )
            else:
                yield from self._tensor_pieces(file, tensor)

    def _base_gaps(self, file: SourceFile) -> Iterator[BaseBytes]:
        """What lies between the tensors of the base file that corresponds to `file`."""
        other = self.base.files[0] if self.single else self.base.by_path.get(file.path)
        if other is not None and (other.layout.format == file.layout.format):
            for start, end, tensor in other.layout.segments():
                if tensor is None:
                    yield BaseBytes(file=other.path, start=start, length=end - start)

    def _tensor_pieces(self, file: SourceFile, tensor: Tensor) -> Iterator[PlannedPiece]:
        """One piece, or two where the base has the same rows but more or fewer of them (an enlarged vocabulary)."""
        element = element_of(tensor.dtype)
        whole = PlannedPiece(file, tensor.start, tensor.length, tensor.name, tensor.shape, element)
        located = self.base.tensors.get(self.renames.get(tensor.name, tensor.name))
        shared = _shared_elements(tensor, located) if located else 0
        if located is None or not shared:
            yield whole
            return
        based = self._from_base(replace(whole, length=shared * element.width), located)
        yield based
        if based.length < whole.length:
            yield replace(whole, start=whole.start + based.length, length=whole.length - based.length)

    def _from_base(self, piece: PlannedPiece, located: Located) -> PlannedPiece:
        reference = BaseTensor(tensor=located.tensor.name, dtype=located.tensor.dtype)
        prediction = FromBase(located, element_of(located.tensor.dtype), piece.element)
        return replace(piece, op="sub", base=reference, prediction=prediction)

    def choose(self, piece: PlannedPiece) -> PlannedPiece:
        """The piece with the operation that stores a sample of it in the fewest bytes.

        A glance at one small window settles the common case; a larger sample is coded where the matter is close, or
        where there are low-rank factors to weigh.
        """
        if piece.name is None or not isinstance(piece.prediction, FromBase):
            return piece
        glance = _Sample(piece, 1, _GLANCE)
        best = replace(piece, change=glance.change(piece.prediction))
        candidates = list(self._lowrank(piece, piece.prediction.base))
        if not candidates and glance.size(piece.prediction) < glance.size(None) * _WORTH:
            return best
        sample = _Sample(piece, 2, _WINDOW)
        size: float = sample.size(piece.prediction)
        for candidate in candidates:
            found = sample.size(candidate.prediction) + candidate.factor_bytes * sample.share
            if found < size * _WORTH:
                best, size = replace(candidate, change=best.change), found
        if sample.size(None) < size:
            return replace(piece, op="full", base=None, prediction=None)
        return best

    def _lowrank(self, piece: PlannedPiece, located: Located) -> Iterator[PlannedPiece]:
        """The piece with the adapter's factors (or found ones), merged in each way a publisher may have done it."""
        stored = element_of(located.tensor.dtype)
        if not {piece.element.name, stored.name} <= CASTABLE or len(piece.shape) != 2 or piece.name is None:
            return
        factors = self.adapter.factors(piece.name) if self.adapter else None
        if factors is None and self.find:
            factors = self.find(piece, located)
        if factors is None or (len(factors.up), factors.down.shape[1]) != piece.shape:
            return
        if math.prod(piece.shape) != piece.count:
            return
        element = element_of(factors.dtype)
        up, down = to_float32(factors.up, element), to_float32(factors.down, element)
        for merge in _MERGES:
            prediction = LowRank(located, stored, piece.element, up, down, factors.scale, merge)
            yield replace(piece, op="lowrank", prediction=prediction, factors=factors, merge=merge)


class _Sample:
    """Windows of a piece, evenly spread, or all of a small one."""

    def __init__(self, piece: PlannedPiece, windows: int, length: int) -> None:
        count = piece.count
        self.windows = [(0, count)]
        if count > windows * length:
            step = count // windows
            self.windows = [(number * step + (step - length) // 2, length) for number in range(windows)]
        self.element = piece.element
        self.targets = [piece.words(*window) for window in self.windows]
        self.share = sum(length for _, length in self.windows) / count

    def size(self, prediction: Prediction | None) -> int:
        """Coded bytes of the sample."""
        return sum(
            len(encode(target, prediction.words(*window) if prediction else None, self.element))
            for target, window in zip(self.targets, self.windows, strict=True)
        )

    def change(self, prediction: Prediction) -> float | None:
        """Norm of the change over the norm of the prediction; None where there are no numbers to compare."""
        if self.element.name not in CASTABLE:
            return None
        moved = kept = 0.0
        with np.errstate(over="ignore", invalid="ignore"):
            for target, window in zip(self.targets, self.windows, strict=True):
                before = to_float32(prediction.words(*window), self.element)
                difference = to_float32(target, self.element) - before
                moved += float(np.dot(difference, difference))
                kept += float(np.dot(before, before))
        ratio = math.sqrt(moved / kept) if kept > 0 and math.isfinite(moved) else math.nan
        return ratio if math.isfinite(ratio) else None


def _shared_elements(tensor: Tensor, located: Located) -> int:
    """How many leading elements the base tensor can predict; 0 when its shape or format does not fit."""
    base = located.tensor
    if tensor.dtype != base.dtype and not {tensor.dtype, base.dtype} <= CASTABLE:
        return 0
    width, base_width = element_of(tensor.dtype).width, element_of(base.dtype).width
    count, base_count = tensor.length // width, base.length // base_width
    if count == base_count:
        return count
    same_rows = len(tensor.shape) == len(base.shape) and len(base.shape) > 0 and tensor.shape[1:] == base.shape[1:]
    return min(count, base_count) if same_rows else 0
