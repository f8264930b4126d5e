"""Token files: ids end to end, mapped into memory, and windows of them in an order fixed by the seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pantry.core.errors import BadFileError
from pantry.core.files import staged_file, storage_errors

Ids = npt.NDArray[np.int64]
SHARD = 1 << 28
"""Tokens of a file: half a gigabyte, or a whole one above 65,536 tokens in the vocabulary."""


class Shards:
    """Arrays one after the other, read as one: by slices, and by arrays of places. They stay in their files."""

    def __init__(self, parts: Sequence[npt.NDArray[Any]], kind: np.dtype[Any]) -> None:
        self._parts, self._kind = parts, kind
        self._ends = np.cumsum([len(part) for part in parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._parts else 0

    def __getitem__(self, wanted: slice | Ids) -> npt.NDArray[Any]:
        places = np.arange(*wanted.indices(len(self))) if isinstance(wanted, slice) else wanted
        if len(self._parts) == 1:
            return np.asarray(self._parts[0][wanted])
        found = np.empty(places.shape, self._kind)
        numbers = np.searchsorted(self._ends, places, "right")
        for number in np.unique(numbers):
            here = numbers == number
            first = self._ends[number] - len(self._parts[number])
            found[here] = self._parts[number][places[here] - first]
        return found

    def tolist(self) -> list[int]:
        listed: list[int] = self[:].tolist()
        return listed

    def sum(self) -> int:
        return sum(int(part.sum()) for part in self._parts)


@dataclass(frozen=True)
class TokenFile:
    """Ids as little-endian `uint16` (`uint32` above 65,536 tokens); `own` marks the model's own words, None: all."""

    ids: Shards
    own: Shards | None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def open(cls, path: Path, vocab: int) -> TokenFile:
        """Map the shards of `path` and, where they are there, their `.own` files.

        Raises BadFileError when their lengths differ, or one is missing.
        """
        with storage_errors(f"Reading {path.name}"):
            files = _shards(path)
            ids = [_map(file, _kind(vocab)) for file in files]
            masks = [file.with_suffix(".own") for file in files if file.with_suffix(".own").exists()]
            own = [_map(mask, np.dtype(np.uint8)) for mask in masks]
        if own and len(own) != len(ids):
            raise BadFileError(f"{len(ids) - len(own)} files of marks are missing beside {path.name}.")
        for file, marks, tokens in zip(masks, own, ids, strict=False):
            if len(marks) != len(tokens):
                raise BadFileError(f"{file.name} has {len(marks)} marks for {len(tokens)} tokens.")
        return cls(Shards(ids, _kind(vocab)), Shards(own, np.dtype(np.uint8)) if own else None)

    def windows(self, starts: Ids, length: int) -> tuple[Ids, npt.NDArray[np.bool_] | None]:
        """Ids (windows, length) from each start on, and the marks of the same shape."""
        places = starts[:, None] + np.arange(length)
        own = None if self.own is None else self.own[places].astype(bool)
        return self.ids[places].astype(np.int64), own


Encoded = Iterable[tuple[list[int], list[bool]]]


def write_tokens(documents: Encoded, path: Path, vocab: int, *, marks: bool, shard: int = SHARD) -> int:
    """Write ids (and with `marks` what is the model's own) to files of `shard` tokens beside `path`; how many tokens.

    `train.tokens` becomes `train-00000.tokens`, `train-00001.tokens`, ...; those of an earlier time go.
    """
    kind, count = _kind(vocab), 0
    for old in (*_shards(path), *_shards(path.with_suffix(".own"))):  # marks may have been left without their tokens
        old.unlink()
    for number, pieces in groupby(_pieces(documents, shard), itemgetter(0)):
        place = path.with_name(f"{path.stem}-{number:05}{path.suffix}")
        with contextlib.ExitStack() as opened:
            file = opened.enter_context(staged_file(place))
            other = opened.enter_context(staged_file(place.with_suffix(".own"))) if marks else None
            for _, ids, own in pieces:
                file.write(np.array(ids, kind).tobytes())
                if other:
                    other.write(np.array(own, np.uint8).tobytes())
                count += len(ids)
    return count


def _pieces(documents: Encoded, shard: int) -> Iterator[tuple[int, list[int], list[bool]]]:
    """The documents cut where a shard is full, with the number of their shard."""
    at = 0
    for ids, own in documents:
        start = 0
        while start < len(ids):
            number, used = divmod(at, shard)
            end = start + min(len(ids) - start, shard - used)
            yield number, ids[start:end], own[start:end]
            at, start = at + end - start, end


def _shards(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}-?????{path.suffix}"))


def token_paths(path: Path) -> list[Path]:
    """The files that `write_tokens` left for `path`, those of the marks too."""
    return [*_shards(path), *filter(Path.exists, (shard.with_suffix(".own") for shard in _shards(path)))]


def training_windows(tokens: int, context: int, seed: int, first: int, count: int) -> Ids:
    """Where the windows `first` to `first + count` of a training begin.

    Each epoch cuts the text at another offset and shuffles the pieces; every token is seen once an epoch. The answer
    depends on nothing else, so a resumed run goes on exactly.
    """
    starts = []
    for epoch, inside in _epochs(tokens, context, first, count):
        dice = np.random.default_rng([seed, epoch])
        spare = tokens - 1 - windows_of(tokens, context) * context
        offset = int(dice.integers(0, min(context, spare + 1)))
        order = dice.permutation(windows_of(tokens, context))
        starts.append(order[inside] * context + offset)
    return np.concatenate(starts)


def windows_of(tokens: int, context: int) -> int:
    """Windows of an epoch; each needs one token more than `context`, the target of its last."""
    return (tokens - 1) // context


def _epochs(tokens: int, context: int, first: int, count: int) -> Iterator[tuple[int, slice]]:
    each = windows_of(tokens, context)
    while count:
        epoch, at = divmod(first, each)
        part = min(count, each - at)
        yield epoch, slice(at, at + part)
        first, count = first + part, count - part


def _map(path: Path, kind: np.dtype[Any]) -> npt.NDArray[Any]:
    """The file as an array; an empty file cannot be mapped."""
    return np.memmap(path, kind, "r") if path.stat().st_size else np.empty(0, kind)


def _kind(vocab: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype("<u2" if vocab <= 1 << 16 else "<u4")
