"""One block of numbers, stored as its difference from a prediction.

The bit patterns are subtracted as unsigned integers and folded (zigzag: 0, -1, 1, -2 become 0, 1, 2, 3). A fine-tune
moves all weights by about the same amount, which is many steps of the number format for a small weight and none or one
for a large weight. So the differences are ordered by the exponent of the prediction, which the reader has too, and each
group of exponents is coded by itself, with its own statistics: byte planes through zstd, or two differences to a byte
where nearly all are below 15. Measurements and the ways that lost: docs/adr/0031-group-differences-by-exponent.md.

Coded block: empty when it equals the prediction. Otherwise `<groups u8>`, the last exponent of each group (u8) and the
elements in each (u32); 0 groups: one group, not ordered. Then per group a method byte and its streams; a stream is
`<kind u8><length u32><data>`. A block without a prediction is one group, with no head.
"""

from __future__ import annotations

import functools
import itertools
import struct
import threading
from collections.abc import Iterator

import numpy as np
import zstandard

from pantry.core.errors import BadFileError
from pantry.formats.dtypes import Element, Words

BLOCK_BYTES = 4 << 20
"""Bytes of the result that one block holds, at most."""
_RUN = 1 << 16  # elements ordered at a time: positions fit 16 bits, and the work fits the processor's cache
_GROUP_ELEMENTS = 1 << 13  # exponents rarer than this share a group: a group pays for its own code tables
_ZERO, _PLANES, _PAIRS = 0, 1, 2
_RAW, _ZSTD, _CONSTANT = 0, 1, 2
_ESCAPE = 15
_PAIRS_TRIED, _PAIRS_SURE = 0.9, 0.99  # share of differences below 15 from which two to a byte are tried, or taken
_STREAM = struct.Struct("<BI")
_POSITIONS = np.arange(_RUN, dtype=np.uint32)
_KEY_EDGES = np.arange(257, dtype=np.uint32) << 16
_threads = threading.local()


def encode(target: Words, predicted: Words | None, element: Element) -> bytes:
    """The block `target` given the prediction (or None: on its own), as bytes for `decode`."""
    if predicted is None:
        return b"".join(_encode_group(_rotate(target, element), element.width))
    if np.array_equal(target, predicted):
        return b""
    if not element.is_float or len(target) < 2 * _GROUP_ELEMENTS:
        parts = [bytes([0]), *_encode_group(_fold(target, predicted, element), element.width)]
        return b"".join(parts)
    ordered, starts = _order(target, predicted, element)
    edges = _group_edges(np.diff(starts, axis=1).sum(axis=0))
    sizes = np.diff(starts[:, edges], axis=1).sum(axis=0)
    parts = [struct.pack(f"<B{len(sizes)}B{len(sizes)}I", len(sizes), *(edge - 1 for edge in edges[1:]), *sizes)]
    for low, high in itertools.pairwise(edges):
        bounds = starts[:, [low, high]] + np.arange(len(starts))[:, None] * _RUN
        group = np.concatenate([ordered[start:end] for start, end in bounds.tolist()])
        parts += _encode_group(group, element.width)
    return b"".join(parts)


def decode(coded: bytes, predicted: Words | None, element: Element, count: int) -> Words:
    """The block of `count` elements that `encode` was given. Raises BadFileError when `coded` is damaged."""
    if predicted is not None and not coded:
        return predicted
    reader = _Reader(coded)
    if predicted is None:
        result = _rotate_back(_decode_group(reader, count, element), element)
    else:
        groups = reader.byte()
        if groups == 0:
            result = _unfold(_decode_group(reader, count, element), predicted, element)
        else:
            edges, sizes = reader.grouping(groups, count)
            folded = [_decode_group(reader, size, element) for size in sizes]
            result = _place(folded, edges, predicted, element)
    reader.check_end()
    return result


def _order(target: Words, predicted: Words, element: Element) -> tuple[Words, Words]:
    """The folded differences, each run ordered by exponent, and [runs, 257] where each exponent starts in its run."""
    ordered = np.empty_like(target)
    starts = np.empty((-(-len(target) // _RUN), 257), np.int64)
    places = np.empty(_RUN, np.intp)
    for row, here in enumerate(_runs(len(target))):
        run = _sorted_run(predicted[here], element)
        starts[row] = np.searchsorted(run, _KEY_EDGES)
        order = np.bitwise_and(run, _RUN - 1, out=places[: len(run)], casting="same_kind")
        _fold(target[here], predicted[here], element).take(order, out=ordered[here], mode="wrap")
    return ordered, starts


def _place(groups: list[Words], edges: Words, predicted: Words, element: Element) -> Words:
    """The block, from the folded differences of its groups."""
    result = np.empty_like(predicted)
    folded = np.empty(_RUN, element.words)
    places = np.empty(_RUN, np.intp)
    taken = [0] * len(groups)
    for here in _runs(len(predicted)):
        run = _sorted_run(predicted[here], element)
        sizes = np.diff(np.searchsorted(run, edges)).tolist()
        pieces = [group[at : at + size] for group, at, size in zip(groups, taken, sizes, strict=True)]
        taken = [at + size for at, size in zip(taken, sizes, strict=True)]
        differences = np.concatenate(pieces)
        if len(differences) != len(run):
            raise BadFileError("This delta does not fit its base: the groups of a block differ.")
        order = np.bitwise_and(run, _RUN - 1, out=places[: len(run)], casting="same_kind")
        folded[order] = differences
        result[here] = _unfold(folded[: len(run)], predicted[here], element)
    return result


def _runs(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _RUN, count)) for start in range(0, count, _RUN))


def _sorted_run(predicted: Words, element: Element) -> Words:
    """Exponent and position in one integer, sorted: a stable order by exponent, and a sort that is vectorised."""
    keys = (predicted >> element.words.type(element.shift)) & element.words.type(element.mask)
    if element.mask > 0xFF:  # f64: 256 exponents around 1.0 are told apart, from 2^-192 up
        keys = np.clip(keys.astype(np.int64) - 831, 0, 255)
    joined: Words = keys.astype(np.uint32)
    joined <<= 16
    joined |= _POSITIONS[: len(joined)]
    joined.sort()
    return joined


def _group_edges(counts: Words) -> list[int]:
    """Cuts of the 256 exponents into groups of at least `_GROUP_ELEMENTS`; the last one takes the rest."""
    edges, held = [0], 0
    for key, count in enumerate(counts.tolist()):
        held += count
        if held >= _GROUP_ELEMENTS:
            edges.append(key + 1)
            held = 0
    edges[-1 if len(edges) > 1 else len(edges) :] = [256]
    return edges


def _fold(target: Words, predicted: Words, element: Element) -> Words:
    signed = (target - predicted).view(f"<i{element.width}")
    folded = signed << 1
    folded ^= signed >> (8 * element.width - 1)
    words: Words = folded.view(element.words)
    return words


def _unfold(folded: Words, predicted: Words, element: Element) -> Words:
    result: Words = folded & element.words.type(1)
    np.negative(result, out=result)
    result ^= folded >> element.words.type(1)
    result += predicted
    return result


def _rotate(target: Words, element: Element) -> Words:
    """The sign moved to the lowest bit, so that a float's exponent fills bytes of its own."""
    if not element.is_float:
        return target
    one, rest = element.words.type(1), element.words.type(8 * element.width - 1)
    rotated: Words = (target << one) | (target >> rest)
    return rotated


def _rotate_back(rotated: Words, element: Element) -> Words:
    if not element.is_float:
        return rotated
    one, rest = element.words.type(1), element.words.type(8 * element.width - 1)
    target: Words = (rotated >> one) | (rotated << rest)
    return target


def _encode_group(group: Words, width: int) -> list[bytes]:
    if not group.any():
        return [bytes([_ZERO])]
    small = group < _ESCAPE
    share = np.count_nonzero(small) / len(group)
    packed = _encode_pairs(group, small) if share >= _PAIRS_TRIED else None
    if packed and share >= _PAIRS_SURE:
        return packed
    bytes_of = np.ascontiguousarray(group).view(np.uint8).reshape(-1, width)
    planes = [stream for plane in range(width) for stream in _stream(np.ascontiguousarray(bytes_of[:, plane]))]
    coded = [bytes([_PLANES]), *planes]
    return packed if packed and sum(map(len, packed)) < sum(map(len, coded)) else coded


def _encode_pairs(group: Words, small: Words) -> list[bytes]:
    """Two differences to a byte; those of 15 and more stand as 15, and follow in full."""
    nibbles = np.minimum(group, _ESCAPE).astype(np.uint8)
    if len(nibbles) % 2:
        nibbles = np.append(nibbles, np.uint8(0))
    escaped = group[~small]
    return [
        bytes([_PAIRS]),
        *_stream(nibbles[::2] | (nibbles[1::2] << 4)),
        *_stream(np.frombuffer(escaped.tobytes(), np.uint8)),
    ]


def _decode_group(reader: _Reader, count: int, element: Element) -> Words:
    method = reader.byte()
    if method == _ZERO:
        return np.zeros(count, element.words)
    if method == _PLANES:
        if element.width == 1:
            return reader.stream(count).copy()
        planes = [reader.stream(count) for _ in range(element.width)]
        return _interleave(planes, element)
    if method == _PAIRS:
        packed = reader.stream((count + 1) // 2)
        group = np.empty((len(packed), 2), np.uint8)
        np.bitwise_and(packed, 15, out=group[:, 0])
        np.right_shift(packed, 4, out=group[:, 1])
        result = group.reshape(-1)[:count].astype(element.words)
        places = np.flatnonzero(result == _ESCAPE)
        result[places] = reader.stream(len(places) * element.width).view(element.words)
        return result
    raise BadFileError(f"This delta is damaged: a group has the unknown method {method}.", hint="Fetch it again.")


def _interleave(planes: list[Words], element: Element) -> Words:
    result = planes[-1].astype(element.words)
    for plane in reversed(planes[:-1]):
        result <<= element.words.type(8)
        result |= plane
    return result


def _stream(plane: Words) -> Iterator[bytes]:
    """One byte stream with its head: constant, compressed, or as it is where compression does not pay."""
    count = len(plane)
    if count and not (plane != plane[0]).any():
        yield _STREAM.pack(_CONSTANT, 1) + plane[:1].tobytes()
        return
    packed = _compressor().compress(plane.data)
    if len(packed) < count - count // 64:
        yield _STREAM.pack(_ZSTD, len(packed))
        yield packed
    else:
        yield _STREAM.pack(_RAW, count)
        yield plane.tobytes()


class _Reader:
    """A cursor over a coded block. Every read is checked against what the block may hold."""

    def __init__(self, coded: bytes) -> None:
        self._coded, self._at = memoryview(coded), 0

    def byte(self) -> int:
        return self._take(1)[0]

    def grouping(self, groups: int, count: int) -> tuple[Words, list[int]]:
        """The upper exponents of the groups, as edges for a sorted run, and the elements of each group."""
        last = np.frombuffer(self._take(groups), np.uint8)
        sizes = np.frombuffer(self._take(4 * groups), "<u4").tolist()
        if sum(sizes) != count or last[-1] != 255 or (np.diff(last.astype(int)) <= 0).any():
            raise BadFileError("This delta is damaged: the groups of a block do not fit it.", hint="Fetch it again.")
        return np.concatenate([[0], last.astype(np.uint32) + 1]).astype(np.uint32) << 16, sizes

    def stream(self, count: int) -> Words:
        """The next stream, which must hold `count` bytes."""
        kind, length = _STREAM.unpack(self._take(_STREAM.size))
        data = self._take(length)
        if kind == _CONSTANT and length == 1:
            return np.full(count, data[0], np.uint8)
        if kind == _RAW and length == count:
            return np.frombuffer(data, np.uint8)
        if kind == _ZSTD:
            return np.frombuffer(decompress(data, count), np.uint8)
        raise BadFileError("This delta is damaged: a stream has a wrong kind or length.", hint="Fetch it again.")

    def check_end(self) -> None:
        if self._at != len(self._coded):
            raise BadFileError("This delta is damaged: a block is longer than its content.", hint="Fetch it again.")

    def _take(self, length: int) -> memoryview:
        if length > len(self._coded) - self._at:
            raise BadFileError("This delta is damaged: a block ends too early.", hint="Fetch it again.")
        self._at += length
        return self._coded[self._at - length : self._at]


def decompress(data: bytes | memoryview, count: int, dictionary: zstandard.ZstdCompressionDict | None = None) -> bytes:
    """The content of one zstd frame that must hold exactly `count` bytes.

    Raises BadFileError otherwise; a frame that claims more is refused before memory is taken for it.
    """
    try:
        if zstandard.frame_content_size(data) not in (-1, count):
            raise zstandard.ZstdError("the size it claims is wrong")
        decompressor = _decompressor() if dictionary is None else zstandard.ZstdDecompressor(dict_data=dictionary)
        content = decompressor.decompress(data, max_output_size=max(count, 1), allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadFileError(f"This delta is damaged: {error}.", hint="Fetch it again.") from None
    if len(content) != count:
        raise BadFileError(f"This delta is damaged: {count} bytes expected, {len(content)} came.")
    return content


def _compressor() -> zstandard.ZstdCompressor:
    """One per thread: a compressor serves one call at a time."""
    found: zstandard.ZstdCompressor | None = getattr(_threads, "compressor", None)
    if found is None:
        found = _threads.compressor = zstandard.ZstdCompressor(compression_params=_parameters())
    return found


def _decompressor() -> zstandard.ZstdDecompressor:
    found: zstandard.ZstdDecompressor | None = getattr(_threads, "decompressor", None)
    if found is None:
        found = _threads.decompressor = zstandard.ZstdDecompressor()
    return found


@functools.cache
def _parameters() -> zstandard.ZstdCompressionParameters:
    """Level 1 with a small hash table: differences hold few repeats, the gain is in the entropy code."""
    return zstandard.ZstdCompressionParameters.from_level(
        1, window_log=17, hash_log=12, min_match=7, write_content_size=False
    )
