"""zstd frames, skippable frames and the seek table (RFC 8878; the table as in zstd's contrib/seekable_format)."""

from __future__ import annotations

import struct
import threading

import zstandard

from pantry.core.errors import BadFileError

SIGNATURE_MAGIC = 0x184D2A5D
SEEK_MAGIC = 0x184D2A5E
SEEK_FOOTER_MAGIC = 0x8F92EAB1
SKIPPABLE_HEADER = struct.Struct("<II")
SEEK_ENTRY = struct.Struct("<II")
SEEK_FOOTER = struct.Struct("<IBI")

_RAW_BLOCK = 128 << 10
_SAMPLE = 64 << 10
_WORTH_IT = 0.97
"""Compressed size over plain size from which on a frame is stored as it is."""

_local = threading.local()


def encode(content: memoryview, level: int | None) -> list[bytes | memoryview]:
    """One independent zstd frame of `content`: compressed at `level`, or raw blocks where that does not pay.

    With `level` None nothing is compressed. The same content gives the same bytes. They come in pieces, some of them
    views of `content`, so that what is stored is not copied.
    """
    if level is not None and _looks_compressible(content, level):
        frame = _compressor(level).compress(content)
        if len(frame) <= _WORTH_IT * len(content):
            return [frame]
    return _stored(content)


def decode(frame: bytes, content_size: int) -> bytes:
    """The content of exactly one frame that declares exactly `content_size` bytes. Raises BadFileError."""
    try:
        declared = zstandard.frame_content_size(frame)
        if declared != content_size:
            raise BadFileError(f"A frame declares {declared} bytes of content; the statement says {content_size}.")
        return _decompressor().decompress(frame, max_output_size=content_size, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadFileError(f"A frame does not decompress: {error}.") from None


def skippable(magic: int, content: bytes) -> bytes:
    """A skippable frame, which every zstd decoder passes over."""
    return SKIPPABLE_HEADER.pack(magic, len(content)) + content


def seek_table(entries: list[tuple[int, int]]) -> bytes:
    """The seek table, as a skippable frame, over `(compressed size, content size)` of every frame before it."""
    body = b"".join(SEEK_ENTRY.pack(*entry) for entry in entries)
    return skippable(SEEK_MAGIC, body + SEEK_FOOTER.pack(len(entries), 0, SEEK_FOOTER_MAGIC))


def _looks_compressible(content: memoryview, level: int) -> bool:
    """Try three samples, so that time is not spent on whole frames of noise."""
    if len(content) <= 4 * _SAMPLE:
        return True
    compressor = _compressor(min(level, 1))
    starts = (0, len(content) // 2, len(content) - _SAMPLE)
    packed = sum(len(compressor.compress(content[start : start + _SAMPLE])) for start in starts)
    return packed <= _WORTH_IT * len(starts) * _SAMPLE


def _stored(content: memoryview) -> list[bytes | memoryview]:
    """A frame of raw blocks: single segment, content size of four bytes, no checksum."""
    size = len(content)
    pieces: list[bytes | memoryview] = [struct.pack("<IBI", zstandard.MAGIC_NUMBER, 0xA0, size)]
    for start in range(0, size, _RAW_BLOCK):
        block = content[start : start + _RAW_BLOCK]
        last = start + _RAW_BLOCK >= size
        pieces += [(last | len(block) << 3).to_bytes(3, "little"), block]
    return pieces


def _compressor(level: int) -> zstandard.ZstdCompressor:
    known: dict[int, zstandard.ZstdCompressor] = _local.__dict__.setdefault("compressors", {})
    if level not in known:
        known[level] = zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True)
    return known[level]


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_local, "decompressor"):
        _local.decompressor = zstandard.ZstdDecompressor()
    return _local.decompressor  # type: ignore[no-any-return]
