"""What a tensor is predicted to be before its difference is coded: the base, the base in another format, or the base
plus a low-rank change.

The low-rank change is summed in single precision, one rank after the other, with separate multiply and add, so that
every machine gets the same bits; no matrix library is involved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from pantry.formats.dtypes import Element, Words, from_float32, to_float32
from pantry.workshop.delta.sources import Located

Merge = Literal["sum", "rounded"]
"""How the publisher added a LoRA: in single precision, rounding once, or rounding the change before adding it."""
_CHUNK = 1 << 16  # elements computed at a time: the work fits the processor's cache


class Prediction(Protocol):
    """Predicted bit patterns of a tensor."""

    def words(self, start: int, count: int) -> Words:
        """`count` elements from element `start`."""
        ...


@dataclass(frozen=True)
class FromBase:
    """The same elements of a base tensor, cast where the formats differ."""

    base: Located
    stored: Element
    wanted: Element

    def words(self, start: int, count: int) -> Words:
        width = self.stored.width
        found = np.frombuffer(self.base.read(start * width, count * width), self.stored.words)
        if self.stored.name == self.wanted.name or not self.wanted.is_float:
            return found
        return from_float32(to_float32(found, self.stored), self.wanted)


@dataclass(frozen=True)
class LowRank:
    """A base tensor [rows, columns] plus `scale` times `up` [rows, rank] times `down` [rank, columns]."""

    base: Located
    stored: Element
    wanted: Element
    up: NDArray[np.float32]
    down: NDArray[np.float32]
    scale: float
    merge: Merge

    def words(self, start: int, count: int) -> Words:
        columns = self.down.shape[1]
        result = np.empty(count, self.wanted.words)
        rows = max(1, _CHUNK // columns)
        first, last = start // columns, -(-(start + count) // columns)
        for low in range(first, last, rows):
            high = min(low + rows, last)
            begin, end = max(low * columns, start), min(high * columns, start + count)
            change = self._change(low, high).reshape(-1)[begin - low * columns : end - low * columns]
            result[begin - start : end - start] = self._merged(change, begin, end)
        return result

    def _change(self, low: int, high: int) -> NDArray[np.float32]:
        change = np.zeros((high - low, self.down.shape[1]), np.float32)
        term = np.empty_like(change)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            for rank in range(len(self.down)):
                np.multiply(self.up[low:high, rank, None], self.down[rank], out=term)
                change += term
            change *= np.float32(self.scale)
        return change

    def _merged(self, change: NDArray[np.float32], begin: int, end: int) -> Words:
        width = self.stored.width
        data = self.base.read(begin * width, (end - begin) * width)
        values = to_float32(np.frombuffer(data, self.stored.words), self.stored)
        if self.merge == "rounded":
            change = to_float32(from_float32(change, self.wanted), self.wanted)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            return from_float32(values + change, self.wanted)
