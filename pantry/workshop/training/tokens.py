"""Token files: ids end to end, mapped into memory, and windows of them in an order fixed by the seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pantry.core.errors import BadFileError
from pantry.core.files import staged_file, storage_errors

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenFile:
    """Ids as little-endian `uint16` (`uint32` above 65,536 tokens); `own` marks the model's own words, None: all."""

    ids: npt.NDArray[np.unsignedinteger]
    own: npt.NDArray[np.uint8] | None

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def open(cls, path: Path, vocab: int) -> TokenFile:
        """Map `path` and, where it is there, its `.own` file. Raises BadFileError when their lengths differ."""
        with storage_errors(f"Reading {path.name}"):
            ids = _map(path, _kind(vocab))
            mask = path.with_suffix(".own")
            own = _map(mask, np.dtype(np.uint8)) if mask.exists() else None
        if own is not None and len(own) != len(ids):
            raise BadFileError(f"{mask.name} has {len(own)} marks for {len(ids)} tokens.")
        return cls(ids, own)

    def windows(self, starts: Ids, length: int) -> tuple[Ids, npt.NDArray[np.bool_] | None]:
        """Ids (windows, length) from each start on, and the marks of the same shape."""
        places = starts[:, None] + np.arange(length)
        own = None if self.own is None else self.own[places].astype(bool)
        return self.ids[places].astype(np.int64), own


def write_tokens(documents: Iterable[tuple[list[int], list[bool]]], path: Path, vocab: int, *, marks: bool) -> int:
    """Write ids (and with `marks` what is the model's own) to `path` and beside it; the number of tokens."""
    kind, count = _kind(vocab), 0
    mask = path.with_suffix(".own")
    mask.unlink(missing_ok=True)
    with contextlib.ExitStack() as opened:
        file = opened.enter_context(staged_file(path))
        other = opened.enter_context(staged_file(mask)) if marks else None
        for ids, own in documents:
            file.write(np.array(ids, kind).tobytes())
            if other:
                other.write(np.array(own, np.uint8).tobytes())
            count += len(ids)
    return count


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
