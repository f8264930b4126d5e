"""A sample takes the number of tokens asked for, and is the same for the same content and seed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("tokenizers")

from pantry.core.errors import UsageError
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.data.corpus import find_corpus
from pantry.workshop.data.documents import Document, Turn
from pantry.workshop.data.encoding import Encoder, encoder_of_file, text_layout
from pantry.workshop.data.sample import PASSAGE, draw_sample
from pantry.workshop.data.settings import DataSettings

BYTES = Encoder(str.encode, 256, text_layout())


def texts(count: int, seed: int = 1) -> list[Document]:
    dice = random.Random(seed)
    return [(Turn("text", f"{number} " + "word " * dice.randrange(40)),) for number in range(count)]


def test_the_tokens_are_exactly_those_asked_for_and_those_of_the_passages() -> None:
    sample = draw_sample(texts(300), BYTES, 1000, seed=3)
    assert sample.tokens == 1000
    whole = [tuple(passage[0].text.encode()) for passage in sample.passages]
    assert list(sample.ids[:-1]) == whole[:-1]
    assert sample.ids[-1] == whole[-1][: len(sample.ids[-1])]
    assert sample.ids[-1]


@given(st.lists(st.text(min_size=1, max_size=9), max_size=30), st.integers(1, 80), st.randoms(use_true_random=False))
def test_neither_order_nor_repeats_of_the_documents_matter(
    contents: list[str], tokens: int, dice: random.Random
) -> None:
    contents = [text.encode(errors="ignore").decode() or "x" for text in contents]
    documents = [(Turn("text", text),) for text in contents]
    sample = draw_sample(documents, BYTES, tokens, seed=5)
    dice.shuffle(documents)
    assert draw_sample(documents * 2, BYTES, tokens, seed=5) == sample
    assert sample.tokens == min(tokens, sum(len(text.encode()) for text in set(contents)))


def test_another_seed_draws_other_passages() -> None:
    first, second = (draw_sample(texts(300), BYTES, 500, seed=seed).passages for seed in (1, 2))
    assert first != second
    assert len(set(first) & set(second)) < len(first) / 2


def test_a_long_text_gives_passages_from_all_over_it() -> None:
    book = "\n".join(f"line {number} of a long book" for number in range(100_000))
    sample = draw_sample([(Turn("text", book),)], BYTES, 40_000, seed=1)
    places = [book.index(passage[0].text) for passage in sample.passages]
    assert all(len(passage[0].text) <= PASSAGE for passage in sample.passages)
    assert all(place == 0 or book[place - 1] == "\n" for place in places)
    assert max(places) - min(places) > len(book) / 4


def test_a_long_text_without_a_space_is_cut_too() -> None:
    sample = draw_sample(
        [(Turn("text", "".join(map(chr, range(300, 300 + 3 * PASSAGE)))),)],
        Encoder(lambda text: [1] * len(text), 2, text_layout()),
        1 << 20,
        seed=1,
    )
    assert [len(passage[0].text) for passage in sample.passages] == [PASSAGE] * 3


def test_only_what_may_be_drawn_is_encoded_and_kept() -> None:
    encoded = []
    encoder = Encoder(lambda text: encoded.append(text) or [1] * 10, 2, text_layout())
    sample = draw_sample(((Turn("text", str(number)),) for number in range(20_000)), encoder, 100, seed=1)
    assert sample.tokens == 100
    assert len(encoded) < 400  # 10 and then about 10 / n of the n-th


@pytest.mark.parametrize(("tokens", "seed"), [(0, 1), (1, -1), (1, 1 << 63)])
def test_a_sample_of_nothing_or_a_seed_out_of_bounds_is_refused(tokens: int, seed: int) -> None:
    with pytest.raises(UsageError):
        draw_sample(texts(3), BYTES, tokens, seed)


def test_a_quantisation_is_calibrated_by_files_and_the_models_own_tokenizer(tmp_path: Path) -> None:
    tok.byte_tokenizer().save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "a.txt").write_text("\n".join(f"Line {number} of the book." for number in range(2000)))
    corpus = find_corpus(tmp_path, ["a.txt"], DataSettings(), tmp_path / "room")
    sample = draw_sample(corpus.documents(), encoder_of_file(tmp_path / "tokenizer.json"), 10_000, seed=7)
    assert sample.tokens == 10_000
    assert {ids[0] for ids in sample.ids} == {tok.END_OF_TEXT_ID}
    assert not (tmp_path / "room").exists()
