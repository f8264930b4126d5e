"""Token files of a corpus: made once, for any tokenizer, and believed only while every file is there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("tokenizers")

from pantry.core.errors import BadFileError
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.data.corpus import find_corpus
from pantry.workshop.data.documents import Document
from pantry.workshop.data.encoding import Encoder, text_layout
from pantry.workshop.data.settings import DataSettings
from pantry.workshop.data.token_set import TokenSet, token_set

LINES = "".join(f"line {number}\n" for number in range(200))


class Maker:
    """Encodes bytes, and counts how often it was asked for; what it learns from is kept."""

    def __init__(self) -> None:
        self.learned: list[list[Document]] = []

    def __call__(self, documents: Iterator[Document]) -> Encoder:
        self.learned.append(list(documents))
        return Encoder(str.encode, 256, text_layout())


def make(
    tmp_path: Path, maker: Maker, told: list[str] | None = None, *, key: str = "bytes", **settings: float
) -> TokenSet:
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    if not any(data.iterdir()):
        (data / "a.txt").write_text(LINES)
    corpus = find_corpus(tmp_path, ["data"], DataSettings(**settings), tmp_path / "room")  # type: ignore[arg-type]
    tell = (told if told is not None else []).append
    return token_set(corpus, tmp_path / "room", maker, key={"tokenizer": key}, shard=500, tell=tell)


def test_the_encoder_learns_from_the_training_part_alone(tmp_path: Path) -> None:
    maker = Maker()
    tokens = make(tmp_path, maker)
    assert bytes(tokens.train.ids.tolist() + tokens.validation.ids.tolist()).decode() == LINES.strip("\n")
    assert maker.learned[0][0][0].text.encode() == bytes(tokens.train.ids.tolist())
    assert tokens.validation_bytes == len(tokens.validation)
    assert sorted(path.name for path in (tmp_path / "room").iterdir()) == [
        "data.json", "train-00000.tokens", "train-00001.tokens", "train-00002.tokens", "train-00003.tokens",
        "validation-00000.tokens",
    ]  # fmt: skip


def test_they_are_made_again_only_when_data_settings_or_tokenizer_change(tmp_path: Path) -> None:
    maker, told = Maker(), list[str]()
    first = make(tmp_path, maker, told)
    assert make(tmp_path, maker, told).train.ids.tolist() == first.train.ids.tolist()
    assert len(maker.learned) == 1
    make(tmp_path, maker, told, validation=0.1)
    make(tmp_path, maker, told, validation=0.1, key="other")
    (tmp_path / "data" / "b.txt").write_text("more")
    make(tmp_path, maker, told, validation=0.1, key="other")
    assert len(maker.learned) == 4
    assert told == []


@pytest.mark.parametrize("name", ["train-00001.tokens", "train-00003.tokens", "validation-00000.tokens"])
def test_a_file_that_is_gone_is_told_and_everything_made_anew(tmp_path: Path, name: str) -> None:
    maker, told = Maker(), list[str]()
    first = make(tmp_path, maker, told).train.ids.tolist()
    (tmp_path / "room" / name).unlink()
    assert make(tmp_path, maker, told).train.ids.tolist() == first
    assert told == [f"{name} is missing in {tmp_path / 'room'}; the data are prepared anew"]
    assert len(make(tmp_path, maker, told).train) == len(first)
    assert len(told) == 1


def test_a_file_that_was_cut_short_is_told_and_made_anew(tmp_path: Path) -> None:
    maker, told = Maker(), list[str]()
    first = make(tmp_path, maker, told).train.ids.tolist()
    path = tmp_path / "room" / "train-00003.tokens"
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-2])
    assert make(tmp_path, maker, told).train.ids.tolist() == first
    assert told[0].startswith(f"train-00003.tokens has {whole - 2} bytes instead of {whole} in ")


def test_a_fault_in_the_data_leaves_nothing_that_is_believed(tmp_path: Path) -> None:
    maker = Maker()
    make(tmp_path, maker)
    (tmp_path / "data" / "b.jsonl").write_text("{")
    with pytest.raises(BadFileError, match="line 1: not JSON"):
        make(tmp_path, maker)
    names = {path.name for path in (tmp_path / "room").iterdir()}
    assert not names & {"data.json", "documents.jsonl"}
    (tmp_path / "data" / "b.jsonl").unlink()
    assert len(make(tmp_path, maker).train) > 0


def test_conversations_keep_which_words_are_the_models_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    line = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho %d"}]}\n'
    (tmp_path / "data" / "a.jsonl").write_text("".join(line % number for number in range(300)))
    corpus = find_corpus(tmp_path, ["data"], DataSettings(), tmp_path / "room")
    tokens = token_set(corpus, tmp_path / "room", lambda _: tok.encoder_of(tok.byte_tokenizer()), key={})
    assert tokens.chat
    assert tokens.validation.own is not None
    assert tokens.validation.own.sum() == tokens.validation_bytes + tokens.validation.ids.tolist().count(0)
