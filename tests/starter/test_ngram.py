"""The baseline is a probability distribution, and learns."""

from __future__ import annotations

import numpy as np
import pytest

from examples.starter.ngram import NGram, padded

VOCAB = 8


@pytest.fixture
def documents() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.concatenate([[0], rng.integers(1, 6, rng.integers(3, 9))]) for _ in range(50)]


@pytest.mark.parametrize("context", [(0, 0), (1, 2), (7, 7), (0, 3)])
def test_next_tokens_sum_to_one_in_seen_and_unseen_contexts(
    documents: list[np.ndarray], context: tuple[int, int]
) -> None:
    model = NGram(padded(documents, 3), 3, VOCAB)
    total = sum(np.exp(model.log_probabilities(np.array([*context, word])))[-1] for word in range(VOCAB))
    assert total == pytest.approx(1.0)


def test_seen_text_is_likelier_than_chance_and_than_a_shuffled_text(documents: list[np.ndarray]) -> None:
    cycle = [np.array([0, 1, 2, 3, 4, 5] * 4) for _ in range(20)]
    model = NGram(padded(cycle, 3), 3, VOCAB)
    seen = model.log_probabilities(padded(cycle[:1], 3))[1:]
    other = model.log_probabilities(padded(documents[:5], 3))[1:]
    assert seen.mean() > np.log(1 / VOCAB) > other.mean() - 0.1
    assert seen.mean() > other.mean() + 1


def test_vocabulary_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        NGram(np.zeros(10, np.int64), 6, 4096)
