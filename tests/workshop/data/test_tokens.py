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
from pantry.workshop.data.tokens import TokenFile, training_windows, windows_of, write_tokens

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


@pytest.mark.timeout(30)
def test_one_endless_word_is_learned_from_in_a_moment() -> None:
    genome = "".join(random.Random(1).choices("ACGT", k=2_000_000))
    learned = tok.train_bpe([(Turn("text", genome),)], 300)
    assert learned.get_vocab_size() == 300
    assert learned.decode(tok.encode_text(learned, genome[:5000])) == genome[:5000]


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
    ids, own = tok.encoder_of(BPE).encode((Turn("user", "Hi"), Turn("assistant", "Hello!")))
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


def test_marks_that_a_crash_left_without_tokens_do_not_stay(tmp_path: Path) -> None:
    write_tokens([([1, 2, 3], [True] * 3)], tmp_path / "a.tokens", 300, marks=True)
    (tmp_path / "a-00000.tokens").unlink()
    write_tokens([([1, 2], [True] * 2)], tmp_path / "a.tokens", 300, marks=False)
    assert TokenFile.open(tmp_path / "a.tokens", 300).own is None


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
