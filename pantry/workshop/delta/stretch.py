"""Bytes that are not tensors (headers, tokenizers, other files): compressed, with the base's bytes as dictionary."""

from __future__ import annotations

import zstandard

from pantry.workshop.delta.codec import decompress
from pantry.workshop.delta.payload import RAW_BLOCK, BaseBytes
from pantry.workshop.delta.sources import SourceFile

_SMALL = 8 << 20  # bytes of content and dictionary up to which the slowest useful level is used
_LARGE_LEVEL = 12
"""The lowest zstd level whose tables hold 12 MiB of dictionary; lower ones find nothing in its first part."""
_SHORTEST = 8  # bytes; zstd takes no shorter dictionary


def pack(plain: bytes, start: int, base: BaseBytes | None, file: SourceFile | None, same_size: bool) -> bytes:
    """The block `plain` that begins at `start` of its stretch, for `unpack`; empty when the base has the same there."""
    known = b""
    if base is not None and file is not None:
        if same_size and file.file.read(base.start + start, len(plain)) == plain:
            return b""
        known = _around(base, file, start)
    level = 19 if len(plain) + len(known) <= _SMALL else _LARGE_LEVEL if known else 3
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=len(plain), dict_size=len(known), window_log=24, write_content_size=False
    )
    if len(known) < _SHORTEST:
        return zstandard.ZstdCompressor(compression_params=parameters).compress(plain)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=_dictionary(known)).compress(plain)


def unpack(coded: bytes, start: int, length: int, base: BaseBytes | None, file: SourceFile | None) -> bytes:
    """The `length` bytes that `pack` was given. Raises BadFileError when `coded` is damaged."""
    if base is None or file is None:
        return decompress(coded, length)
    if not coded:
        return file.file.read(base.start + start, length)
    known = _around(base, file, start)
    return decompress(coded, length, _dictionary(known) if len(known) >= _SHORTEST else None)


def _around(base: BaseBytes, file: SourceFile, start: int) -> bytes:
    """The base's bytes from a block before `start` to two after."""
    low = max(0, min(start, base.length) - RAW_BLOCK)
    high = min(start + 2 * RAW_BLOCK, base.length)
    return file.file.read(base.start + low, high - low)


def _dictionary(content: bytes) -> zstandard.ZstdCompressionDict:
    return zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
