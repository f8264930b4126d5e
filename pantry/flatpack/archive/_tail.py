"""The end of a flatpack: the signature bundle and the seek table, which must account for every byte of the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import BinaryIO

from pantry.core.errors import BadFileError
from pantry.flatpack.archive._frames import (
    SEEK_ENTRY,
    SEEK_FOOTER,
    SEEK_FOOTER_MAGIC,
    SEEK_MAGIC,
    SIGNATURE_MAGIC,
    SKIPPABLE_HEADER,
    seek_table,
    skippable,
)
from pantry.flatpack.archive._stream import read_exactly
from pantry.flatpack.archive.bundle import MAX_BUNDLE, Bundle, dump_bundle
from pantry.flatpack.statement import Frame

MAX_FRAMES = 1 << 19
"""More than a bundle could list."""


@dataclass(frozen=True)
class Tail:
    """What the end of the file tells: the bundle's bytes, `(size, content)` of each frame, where the data end."""

    bundle: bytes
    frames: list[tuple[int, int]]
    data_size: int


def write_tail(file: BinaryIO, frames: tuple[Frame, ...], bundle: Bundle) -> None:
    """Write the bundle and the seek table. Raises BadFileError when the bundle is too large to be read again."""
    signature = skippable(SIGNATURE_MAGIC, dump_bundle(bundle))
    if len(signature) > MAX_BUNDLE:
        raise BadFileError(f"The list of files would take {len(signature)} bytes; at most {MAX_BUNDLE} are possible.")
    file.write(signature)
    file.write(seek_table([*((frame.size, frame.content) for frame in frames), (len(signature), 0)]))


def read_tail(descriptor: int, name: str) -> Tail:
    """Read and check the tail of an open file. Raises BadFileError unless frames, bundle and table fill it exactly."""
    table = _seek_table(descriptor, name)
    *frames, (size, content) = table
    start = sum(entry[0] for entry in frames)
    if content or not SKIPPABLE_HEADER.size < size <= MAX_BUNDLE:
        raise BadFileError(f"{name}: the signature frame is missing or too large.")
    data = read_exactly(descriptor, size, start)
    if SKIPPABLE_HEADER.unpack_from(data) != (SIGNATURE_MAGIC, size - SKIPPABLE_HEADER.size):
        raise BadFileError(f"{name}: the signature frame is not at byte {start}.")
    return Tail(data[SKIPPABLE_HEADER.size :], frames, start)


def _seek_table(descriptor: int, name: str) -> list[tuple[int, int]]:
    size, footer = os.fstat(descriptor).st_size, SEEK_FOOTER.size
    if size < footer + SKIPPABLE_HEADER.size:
        raise _no_flatpack(name, size)
    count, flags, magic = SEEK_FOOTER.unpack(read_exactly(descriptor, footer, size - footer))
    if magic != SEEK_FOOTER_MAGIC:
        raise _no_flatpack(name, size)
    length = count * SEEK_ENTRY.size + footer
    offset = size - length - SKIPPABLE_HEADER.size
    if flags or not 2 <= count <= MAX_FRAMES or offset < 0:
        raise BadFileError(f"{name}: the seek table lies about its own size.")
    data = read_exactly(descriptor, length + SKIPPABLE_HEADER.size, offset)
    if SKIPPABLE_HEADER.unpack_from(data) != (SEEK_MAGIC, length):
        raise BadFileError(f"{name}: the seek table does not begin where its size says.")
    table: list[tuple[int, int]] = list(SEEK_ENTRY.iter_unpack(data[SKIPPABLE_HEADER.size : -footer]))
    if sum(entry[0] for entry in table) != offset:
        raise BadFileError(f"{name}: the frames of the seek table do not fill the file.")
    return table


def _no_flatpack(name: str, size: int) -> BadFileError:
    return BadFileError(
        f"{name} does not end like a flatpack (byte {size}).",
        hint="It may be cut short, or no flatpack at all. Fetch or pack it again.",
    )
