"""Finds a low-rank change where a merged LoRA's matrices were not published.

Randomised range finder with one power iteration (Halko, Martinsson, Tropp 2011, algorithms 4.4 and 5.1), over blocks of
rows, so that a tensor is never in memory as a whole. What it finds is stored; the exactness of the result does not rest
on it, only the size.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pantry.formats.dtypes import element_of, from_float32, to_float32
from pantry.workshop.delta.adapter import Factors
from pantry.workshop.delta.plan import PlannedPiece
from pantry.workshop.delta.predict import Prediction
from pantry.workshop.delta.sources import Located

MAX_RANK, SPARE = 64, 8
"""Ranks looked for, and columns beyond them that show the noise of rounding."""
_LEAST_SIDE = 4 * (MAX_RANK + SPARE)  # a smaller matrix is cheaper to store as it is
_MAX_SKETCH = 64 << 20  # bytes
_ABOVE_NOISE = 3.0  # times the median of the spare singular values
_BLOCK = 1 << 20  # elements of a block of rows
Matrix = NDArray[np.float32]


def find_factors(piece: PlannedPiece, located: Located) -> Factors | None:
    """Factors of the piece's change from the base tensor, or None where it is not of low rank.

    `located` is the base tensor that the piece's own prediction starts from.
    """
    rows, columns = piece.shape
    width = MAX_RANK + SPARE
    if min(rows, columns) < _LEAST_SIDE or max(rows, columns) * width * 4 > _MAX_SKETCH:
        return None
    if piece.prediction is None or piece.count != rows * columns:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return _factors(_Change(piece, piece.prediction, rows, columns), width)


def _factors(change: _Change, width: int) -> Factors | None:
    start = np.random.default_rng(0).standard_normal((change.columns, width), np.float32)
    sketch = change.times(start)
    if not np.isfinite(sketch).all() or not sketch.any():
        return None
    basis = np.linalg.qr(change.times(np.linalg.qr(change.transposed_times(np.linalg.qr(sketch)[0]))[0]))[0]
    left, strengths, right = np.linalg.svd(change.transposed_times(basis).T, full_matrices=False)
    rank = int(np.count_nonzero(strengths > _ABOVE_NOISE * np.median(strengths[-SPARE:])))
    if not 0 < rank <= MAX_RANK:
        return None
    roots = np.sqrt(strengths[:rank])
    up, down = (basis @ left[:, :rank]) * roots, roots[:, None] * right[:rank]
    dtype = change.factor_dtype
    element = element_of(dtype)
    stored = [from_float32(np.ascontiguousarray(matrix, np.float32), element) for matrix in (up, down)]
    return Factors(dtype, stored[0], stored[1], 1.0)


class _Change:
    """Target minus prediction, [rows, columns], read in blocks of rows."""

    def __init__(self, piece: PlannedPiece, prediction: Prediction, rows: int, columns: int) -> None:
        self._piece, self._prediction = piece, prediction
        self.rows, self.columns = rows, columns

    @property
    def factor_dtype(self) -> str:
        """Half precision does for weights of 16 bits: its error is far below one step of theirs."""
        return "f16" if self._piece.element.width == 2 else "f32"

    def times(self, matrix: Matrix) -> Matrix:
        """change @ matrix."""
        return np.concatenate([block @ matrix for _, block in self._blocks()])

    def transposed_times(self, matrix: Matrix) -> Matrix:
        """change.T @ matrix."""
        total = np.zeros((self.columns, matrix.shape[1]), np.float32)
        for here, block in self._blocks():
            total += block.T @ matrix[here]
        return total

    def _blocks(self) -> Iterator[tuple[slice, Matrix]]:
        step = max(1, _BLOCK // self.columns)
        element = self._piece.element
        for first in range(0, self.rows, step):
            last = min(first + step, self.rows)
            window = first * self.columns, (last - first) * self.columns
            found, before = (
                to_float32(source(*window), element) for source in (self._piece.words, self._prediction.words)
            )
            yield slice(first, last), (found - before).reshape(last - first, self.columns)
