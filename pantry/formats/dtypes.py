"""The number formats of weights: their width and where the exponent sits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Words = NDArray[Any]
"""Raw bit patterns as unsigned integers of the element's width."""


@dataclass(frozen=True)
class Element:
    """A number format. `width` is in bytes; the exponent is `(bits >> shift) & mask` (mask 0: it has none)."""

    name: str
    width: int
    shift: int = 0
    mask: int = 0

    @property
    def words(self) -> np.dtype[Any]:
        """The little-endian unsigned integer that holds one element."""
        return np.dtype(f"<u{self.width}")

    @property
    def is_float(self) -> bool:
        return self.mask != 0


ELEMENTS = {
    element.name: element
    for element in (
        Element("f64", 8, 52, 0x7FF),
        Element("f32", 4, 23, 0xFF),
        Element("f16", 2, 10, 0x1F),
        Element("bf16", 2, 7, 0xFF),
        Element("f8_e4m3", 1, 3, 0x0F),
        Element("f8_e5m2", 1, 2, 0x1F),
        Element("i64", 8),
        Element("u64", 8),
        Element("i32", 4),
        Element("u32", 4),
        Element("i16", 2),
        Element("u16", 2),
        Element("i8", 1),
        Element("u8", 1),
        Element("bool", 1),
    )
}


def element_of(dtype: str) -> Element:
    """The element of a number format; formats not in the table (quantised blocks) count as single bytes."""
    return ELEMENTS.get(dtype) or Element(dtype, 1)


def to_float32(words: Words, element: Element) -> NDArray[np.float32]:
    """The values of f16, bf16, f32 or f64 bit patterns in single precision, rounded to nearest even."""
    if element.name == "bf16":
        return (words.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return words.view(np.dtype(f"<f{element.width}")).astype(np.float32)


def from_float32(values: NDArray[np.float32], element: Element) -> Words:
    """Bit patterns of `values` in f16, bf16, f32 or f64, rounded to nearest even. NaN stays some NaN."""
    if element.name == "bf16":
        bits = values.view(np.uint32)
        rounded: Words = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        return rounded
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return values.astype(np.dtype(f"<f{element.width}")).view(element.words)


CASTABLE = frozenset({"f64", "f32", "f16", "bf16"})
"""Formats that can be predicted from one another through single precision."""
