"""Training text from Parquet: streamed, by column, refused with the row."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path
from typing import Any

import pytest

from pantry.core.errors import BadFileError, MissingExtraError
from pantry.workshop.data import parquet
from pantry.workshop.data.documents import Document, Turn
from pantry.workshop.data.sources import find_files, read_documents

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(folder: Path, columns: dict[str, Any], **options: Any) -> Path:
    path = folder / "data.parquet"
    pq.write_table(pa.table(columns), path, **options)
    return path


def read(folder: Path, text_field: str = "text") -> list[Document]:
    return list(read_documents(find_files(folder, ["data.parquet"]), text_field))


def test_the_texts_of_all_row_groups_come_in_order_and_empty_ones_are_none(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(500)]
    write(tmp_path, {"id": range(502), "text": [*texts, None, ""]}, row_group_size=7)
    assert [document[0].text for document in read(tmp_path)] == texts


def test_another_column_may_hold_the_text(tmp_path: Path) -> None:
    write(tmp_path, {"story": pa.array(["s"], pa.large_string()), "text": ["t"]})
    assert read(tmp_path, "story") == [(Turn("text", "s"),)]


def test_conversations_are_read_as_in_jsonl(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    write(tmp_path, {"messages": [messages], "text": ["no"]})
    assert read(tmp_path) == [(Turn("user", "Hi"), Turn("assistant", "Hello"))]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"body": ["x"]}, "has no column 'text'; it has 'body'"),
        ({"text": [1]}, "'text' of data.parquet holds int64, not text"),
        ({"text": [["x"]]}, "holds list<"),
        ({"messages": [[{"role": "robot", "content": "x"}]]}, "data.parquet, row 1, message 1: expected a role"),
        ({"messages": [[{"role": "user", "content": "x"}]]}, "row 1: a conversation without an answer"),
    ],
)
def test_a_file_without_text_says_what_it_holds(tmp_path: Path, columns: dict[str, Any], words: str) -> None:
    write(tmp_path, columns)
    with pytest.raises(BadFileError) as caught:
        read(tmp_path)
    assert words in caught.value.message


def test_text_that_is_not_utf8_is_refused_with_its_row(tmp_path: Path) -> None:
    raw = pa.array([b"fine", b"f\xe9"], pa.binary())
    write(tmp_path, {"text": pa.Array.from_buffers(pa.string(), 2, raw.buffers())})
    with pytest.raises(BadFileError, match=r"is not a whole Parquet file of UTF-8 text, after row 2"):
        read(tmp_path)


def test_a_column_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"text": ["a" * 100_000] * 100}, use_dictionary=False, compression="zstd")
    monkeypatch.setattr(parquet, "MAX_GROUP", 1_000_000)
    with pytest.raises(BadFileError, match=r"row group 1 unpacks to \d{8} bytes"):
        read(tmp_path)


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": [f"text {number}" * 20 for number in range(300)]}, compression="zstd")
    content = path.read_bytes()
    dice = random.Random(5)
    refused = 0
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(3):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged[: dice.choice([len(damaged), dice.randrange(len(damaged))])])
        with contextlib.suppress(BadFileError):
            read(tmp_path)
            continue
        refused += 1
    assert refused > 30


def test_without_pyarrow_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"text": ["x"]})
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtraError) as caught:
        read(tmp_path)
    assert "pantry-llm[train]" in str(caught.value.hint)
