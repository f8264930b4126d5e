"""Tokenizers and token files: nothing is lost, nothing is seen twice in an epoch, the order follows the seed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from pantry.core.errors import BadFileError
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.data.documents import Turn
from pantry.workshop.data.prepare import prepare
from pantry.workshop.data.tokens import TokenFile, training_windows, windows_of, write_tokens
from pantry.workshop.recipe import RecipeFolder, make_recipe

TEXTS = (
    "Hello, world! 123 4567\n\n  two  spaces\tTab", "naïve café — “quotes” 日本語 🙂🙂", " leading", "a\r\nb",
    "x²½ ١٢٣", "What is 3 + 4 = ?\nDon't we'll I'd  \n", "\n\n\n", "<|im_start|>user <|endoftext|>",
)  # fmt: skip
BYTES = tok.byte_tokenizer()
BPE = tok.train_bpe([(Turn("text", text * 3),) for text in TEXTS], 320)


@pytest.mark.parametrize("tokenizer", [BYTES, BPE], ids=["bytes", "bpe"])
@pytest.mark.parametrize("text", TEXTS)
def test_any_text_survives_and_holds_no_special_token(tokenizer: tok.Tokenizer, text: str) -> None:
    ids = tok.encode_text(tokenizer, text)
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert min(ids) >= len(tok.SPECIALS)


def test_bytes_are_one_token_each() -> None:
    assert BYTES.get_vocab_size() == 3 + 256 + 1
    assert len(tok.encode_text(BYTES, "Zoë")) == 4


def test_specials_have_the_first_ids_after_saving(tmp_path: Path) -> None:
    BPE.save(str(tmp_path / "t.json"))
    again = tok.load_tokenizer(str(tmp_path / "t.json"))
    assert [again.token_to_id(word) for word in tok.SPECIALS] == [0, 1, 2]
    assert [tok.encode_text(again, text) for text in TEXTS] == [tok.encode_text(BPE, text) for text in TEXTS]


def test_a_long_text_in_pieces_encodes_as_in_one() -> None:
    text = "".join(random.Random(1).choices(["a", "é", " ", "\n", "'s", "12", "\n\n", " \n "], k=3000))
    parts = list(tok.pieces(text, 50))
    assert len(parts) > 20
    assert "".join(parts) == text
    assert [i for part in parts for i in BPE.encode(part, add_special_tokens=False).ids] == (
        BPE.encode(text, add_special_tokens=False).ids
    )


def test_only_the_answer_and_its_end_are_the_models_own_words() -> None:
    ids, own = tok.encode_document(BPE, (Turn("user", "Hi"), Turn("assistant", "Hello!")))
    assert BPE.decode([i for i, mine in zip(ids, own, strict=True) if mine], skip_special_tokens=False) == (
        "Hello!<|im_end|>"
    )
    assert BPE.decode(ids, skip_special_tokens=False) == (
        "<|endoftext|><|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n"
    )


def test_token_files_give_back_what_was_written(tmp_path: Path) -> None:
    documents = [([1, 2, 3], [False, True, True]), ([65535], [True])]
    assert write_tokens(documents, tmp_path / "a.tokens", 65536, marks=True) == 4
    file = TokenFile.open(tmp_path / "a.tokens", 65536)
    ids, own = file.windows(np.array([0, 2]), 2)
    assert ids.tolist() == [[1, 2], [3, 65535]]
    assert own is not None
    assert own.tolist() == [[False, True], [True, True]]


@pytest.mark.parametrize("size", [1, 3, 7, 10, 99])
def test_shards_are_read_as_one_file(tmp_path: Path, size: int) -> None:
    documents = [(list(range(at, at + 4)), [at % 8 == 0] * 4) for at in range(0, 20, 4)]
    write_tokens([([9] * 50, [True] * 50)], tmp_path / "a.tokens", 300, marks=True, shard=2)
    assert write_tokens(documents, tmp_path / "a.tokens", 300, marks=True, shard=size) == 20
    assert len(list(tmp_path.glob("a-*.tokens"))) == -(-20 // size)
    file = TokenFile.open(tmp_path / "a.tokens", 300)
    assert (len(file), file.ids.tolist(), file.ids[3:9].tolist()) == (20, list(range(20)), list(range(3, 9)))
    ids, own = file.windows(np.array([0, 5, 15]), 5)
    assert ids.tolist() == [list(range(start, start + 5)) for start in (0, 5, 15)]
    assert own is not None
    assert own.tolist() == [[at // 4 % 2 == 0 for at in row] for row in ids.tolist()]
    assert file.own is not None
    assert file.own.sum() == 12


def test_a_shard_of_marks_that_is_missing_is_told(tmp_path: Path) -> None:
    write_tokens([([1, 2, 3], [True] * 3)], tmp_path / "a.tokens", 300, marks=True, shard=2)
    (tmp_path / "a-00001.own").unlink()
    with pytest.raises(BadFileError, match=r"1 files of marks are missing beside a\.tokens"):
        TokenFile.open(tmp_path / "a.tokens", 300)


def test_a_file_of_marks_of_another_length_is_refused(tmp_path: Path) -> None:
    write_tokens([([1, 2, 3], [True] * 3)], tmp_path / "a.tokens", 300, marks=True)
    (tmp_path / "a-00000.own").write_bytes(b"\1")
    with pytest.raises(BadFileError, match="1 marks for 3 tokens"):
        TokenFile.open(tmp_path / "a.tokens", 300)


@pytest.mark.parametrize(("tokens", "context"), [(101, 10), (100, 10), (12, 10), (1000, 7)])
def test_an_epoch_sees_every_window_once_and_stays_inside(tokens: int, context: int) -> None:
    each = windows_of(tokens, context)
    starts = training_windows(tokens, context, seed=3, first=each, count=each)
    assert len(set(starts.tolist())) == each
    assert starts.min() >= 0
    assert starts.max() + context < tokens
    assert len({start % context for start in starts.tolist()}) == 1


def test_each_epoch_cuts_the_text_at_another_place() -> None:
    each = windows_of(1009, 10)
    epochs = [training_windows(1009, 10, seed=3, first=number * each, count=each) for number in range(12)]
    assert len({int(starts[0]) % 10 for starts in epochs}) > 3
    assert len({tuple(starts.tolist()) for starts in epochs}) == 12


def test_windows_depend_on_the_place_alone() -> None:
    whole = training_windows(1000, 10, seed=3, first=0, count=250)
    parts = [training_windows(1000, 10, seed=3, first=at, count=50) for at in range(0, 250, 50)]
    assert whole.tolist() == np.concatenate(parts).tolist()
    assert training_windows(1000, 10, seed=4, first=0, count=250).tolist() != whole.tolist()


def folder_with(tmp_path: Path, text: str, **settings: object) -> RecipeFolder:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "a.txt").write_text(text)
    recipe = make_recipe({"context": 16, **settings})
    return RecipeFolder(folder=tmp_path, name="t", data=("data",), settings=recipe)


def test_few_texts_hold_out_their_ends(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(200))
    prepared = prepare(folder_with(tmp_path, lines, tokenizer="bytes"), tmp_path / "room")
    held_out = prepared.tokenizer.decode(prepared.validation.ids.tolist())
    assert held_out.startswith("line 19")
    assert held_out.endswith("line 199")
    assert prepared.validation_bytes == len(held_out)
    assert "line 199" not in prepared.tokenizer.decode(prepared.train.ids.tolist())


def test_many_documents_hold_out_whole_ones(tmp_path: Path) -> None:
    texts = [f"document {number}." for number in range(300)]
    prepared = prepare(folder_with(tmp_path, "\n<|endoftext|>\n".join(texts)), tmp_path / "room")
    both = [
        set(prepared.tokenizer.decode(part.ids.tolist(), skip_special_tokens=False).split(tok.END_OF_TEXT)[1:])
        for part in (prepared.train, prepared.validation)
    ]
    assert both[0] | both[1] == set(texts)
    assert not both[0] & both[1]
    assert 5 <= len(both[1]) <= 30


def test_data_are_prepared_again_only_when_they_or_their_settings_change(tmp_path: Path) -> None:
    room, text = tmp_path / "room", "one two three\n" * 40
    prepare(folder_with(tmp_path, text), room)
    before = (room / "train-00000.tokens").stat().st_mtime_ns
    prepare(folder_with(tmp_path, text, learning_rate=0.5), room)
    assert (room / "train-00000.tokens").stat().st_mtime_ns == before
    prepare(folder_with(tmp_path, text, vocab=270), room)
    assert (room / "train-00000.tokens").stat().st_mtime_ns > before
    assert (
        prepare(folder_with(tmp_path, text + "four"), room).data_digest
        != prepare(folder_with(tmp_path, text), room).data_digest
    )


def test_what_was_left_out_and_blanked_is_known_the_second_time_too(tmp_path: Path) -> None:
    texts = ["a first text of mine", "mail me@home.org", "a first text of mine", "z"] + [f"line {n}" for n in range(20)]
    folder = folder_with(tmp_path, "\n<|endoftext|>\n".join(texts), min_characters=2, scrub="emails")
    first, second = (prepare(folder, tmp_path / "room").cleaned for _ in range(2))
    assert second == first
    assert first.sentences() == [
        "left out 1 document: shorter than 2 characters",
        "left out 1 document: the same as an earlier one",
        "blanked out 1 email",
    ]


@pytest.mark.parametrize(("text", "words"), [("", "The files are empty."), ("a\n", "left out 1 document")])
def test_data_without_text_are_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text(text)
    recipe = RecipeFolder(
        folder=tmp_path, name="x", data=("data",), settings=make_recipe({"min_characters": 5, "context": 16})
    )
    with pytest.raises(BadFileError, match="hold no text") as caught:
        prepare(recipe, tmp_path / "room")
    assert words in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no text"), ("\n\n", "no text"), ("One line.", "too few: .* a context of 16 needs at least 17")],
)
def test_too_little_text_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadFileError, match=words):
        prepare(folder_with(tmp_path, text), tmp_path / "room")
