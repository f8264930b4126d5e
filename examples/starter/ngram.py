"""The baseline: an interpolated Kneser-Ney n-gram model over the same tokens (Chen and Goodman 1999, section 4.1.6).

An n-gram of up to five tokens fits one 64-bit number at twelve bits a token, so that counting is
sorting, and looking up is a binary search.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

BITS = 12
START = 0
"""Token that fills the places before a document; its id in the tokenizer is that of end-of-text."""


@dataclass(frozen=True)
class Level:
    """One order: sorted n-grams with counts, and for each context its total and its number of followers."""

    grams: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    followers: np.ndarray
    discount: float


def padded(documents: Iterable[np.ndarray], order: int) -> np.ndarray:
    """All documents end to end, each with `order` - 1 start tokens before it."""
    lead = np.full(order - 1, START, np.int64)
    return np.concatenate([part for document in documents for part in (lead, document.astype(np.int64))])


def windows(tokens: np.ndarray, order: int) -> np.ndarray:
    """For each position from `order` - 1 on: the n-gram that ends there as one number, the newest token lowest."""
    grams = np.zeros(len(tokens) - order + 1, np.int64)
    for back in range(order):
        stop = len(tokens) - back
        grams |= tokens[order - 1 - back : stop] << (BITS * back)
    return grams


def _level(grams: np.ndarray, counts: np.ndarray) -> Level:
    contexts, first = np.unique(grams >> BITS, return_index=True)
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return Level(
        grams,
        counts,
        contexts,
        np.add.reduceat(counts, first),
        np.diff(np.append(first, len(grams))),
        once / (once + 2 * twice) if once else 0.5,
    )


class NGram:
    """Counts of `tokens` (as `padded` gives them); lower orders count distinct left neighbours."""

    def __init__(self, tokens: np.ndarray, order: int, vocab: int) -> None:
        if vocab > 1 << BITS or order * BITS > 63:
            raise ValueError(f"{order} tokens of {vocab} do not fit 64 bits")
        self.order, self.vocab = order, vocab
        grams, counts = np.unique(windows(tokens, order), return_counts=True)
        levels = [_level(grams, counts)]
        for lower in range(order - 1, 0, -1):
            grams, counts = np.unique(grams & ((1 << (BITS * lower)) - 1), return_counts=True)
            levels.append(_level(grams, counts))
        self.levels = levels[::-1]

    def log_probabilities(self, tokens: np.ndarray) -> np.ndarray:
        """Natural-log probability of every token from position `order` - 1 on, given the ones before it."""
        whole = windows(tokens, self.order)
        probability = np.full(len(whole), 1.0 / self.vocab)
        for size, level in enumerate(self.levels, 1):
            grams = whole & ((1 << (BITS * size)) - 1)
            context_at = _find(level.contexts, grams >> BITS)
            gram_at = _find(level.grams, grams)
            known = context_at >= 0
            total = np.where(known, level.totals[context_at], 1)
            count = np.where(gram_at >= 0, level.counts[gram_at], 0)
            spare = level.discount * level.followers[context_at] / total
            mixed = np.maximum(count - level.discount, 0) / total + spare * probability
            probability = np.where(known, mixed, probability)
        return np.log(probability)


def _find(ordered: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of each wanted number, -1 where it is not there."""
    at = np.minimum(np.searchsorted(ordered, wanted), len(ordered) - 1)
    return np.where(ordered[at] == wanted, at, -1)
