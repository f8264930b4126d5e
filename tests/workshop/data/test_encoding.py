"""Any tokenizer may encode the documents: of our own, a model's file, or a plain callable."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tokenizers")

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pantry.core.errors import BadFileError, StorageError, UsageError
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.data.documents import Turn
from pantry.workshop.data.encoding import Encoder, encoder_of_file, text_layout
from pantry.workshop.data.tokens import TokenFile, write_tokens

TEXT = (Turn("text", "a b <s>"),)
CHAT = (Turn("user", "Hi"), Turn("assistant", "Ho"))


def words_file(path: Path, frame: str = "<s> $A </s>") -> Path:
    """A tokenizer of words as a model brings it: special tokens around a text, a gap in the ids, and a short limit."""
    tokenizer = Tokenizer(models.WordLevel({"[?]": 0, "a": 1, "b": 2, "<s>": 7, "</s>": 9}, "[?]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single=frame, special_tokens=[("<s>", 7), ("</s>", 9)])
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(path))
    return path


@pytest.mark.parametrize(
    ("frame", "wanted"), [("<s> $A </s>", [7, 1, 2, 1, 2, 9]), ("<s> $A", [7, 1, 2, 1, 2]), ("$A", [1, 2, 1, 2])]
)
def test_a_text_is_framed_as_the_models_own_tokenizer_does_and_never_cut_short(
    tmp_path: Path, frame: str, wanted: list[int]
) -> None:
    encoder = encoder_of_file(words_file(tmp_path / "tokenizer.json", frame))
    assert encoder.encode((Turn("text", "a b a b"),)) == (wanted, [True] * len(wanted))
    assert encoder.vocab == 10


def test_a_special_token_in_the_text_is_plain_text(tmp_path: Path) -> None:
    ids, _ = encoder_of_file(words_file(tmp_path / "t.json")).encode((Turn("text", "a <|endoftext|>"),))
    assert ids == [7, 1, 0, 9]
    path = tmp_path / "bpe.json"
    tok.byte_tokenizer().save(str(path))
    ids, _ = encoder_of_file(path).encode((Turn("text", "x<|endoftext|>"),))
    assert ids.count(tok.END_OF_TEXT_ID) == 1
    assert len(ids) == 1 + len("x<|endoftext|>")


def test_a_conversation_needs_a_layout(tmp_path: Path) -> None:
    path = words_file(tmp_path / "t.json")
    with pytest.raises(BadFileError, match="a conversation"):
        encoder_of_file(path).encode(CHAT)
    encoder = encoder_of_file(path, lambda document: [(7, False), *((turn.text, False) for turn in document)])
    assert encoder.encode(CHAT) == ([7, 0, 0], [False] * 3)


def test_a_callable_is_a_tokenizer_too(tmp_path: Path) -> None:
    encoder = Encoder(str.encode, 256, text_layout(end=[0]))
    documents = [(Turn("text", "né"),), (Turn("text", "x"),)]
    write_tokens(map(encoder.encode, documents), tmp_path / "a.tokens", encoder.vocab, marks=False)
    assert bytes(TokenFile.open(tmp_path / "a.tokens", 256).ids.tolist()) == "né\0x\0".encode()


@pytest.mark.parametrize("number", [300, -1, np.int64(300)])
def test_a_token_out_of_the_vocabulary_is_refused(number: int) -> None:
    with pytest.raises(UsageError, match=f"gave the token {number}; its vocabulary ends at 255"):
        Encoder(lambda _: [1, number], 256, text_layout()).encode(TEXT)


@pytest.mark.parametrize(
    "content",
    [
        '{"model": 1}',
        Tokenizer(models.BPE()).to_str(),
        Tokenizer(models.WordLevel({"b": 0}, "[a word that is not there]")).to_str(),
    ],
    ids=["another file", "no vocabulary", "no token for an unknown word"],
)
def test_what_is_not_a_tokenizer_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.json").write_text(content)
    with pytest.raises(BadFileError, match="is not the file of a working tokenizer"):
        encoder_of_file(tmp_path / "t.json")


def test_a_tokenizer_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        encoder_of_file(tmp_path / "none.json")
