"""Tensors of a GGUF file. Floating-point and integer tensors by value, quantised ones as bytes."""

from __future__ import annotations

from pathlib import Path

from pantry.formats.gguf import read_header
from pantry.workshop.delta.layout import Layout, Tensor


def read_gguf(path: Path) -> Layout:
    """The layout of a GGUF file. Raises BadFileError as `pantry.formats.gguf.read_header`."""
    header = read_header(path)
    tensors = tuple(
        Tensor(row.name, row.type.lower(), tuple(reversed(row.shape)), header.data_start + row.offset, row.size)
        for row in header.tensors
    )
    return Layout("gguf", header.file_size, tensors)
