"""Training text from files: what is read, and what is refused with its place."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, NotFoundError, StorageError
from pantry.workshop.data.documents import Document, Turn
from pantry.workshop.data.sources import data_digest, find_files, read_documents


def read(folder: Path, text_field: str = "text") -> list[Document]:
    return list(read_documents(find_files(folder, ["data"]), text_field))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def test_files_come_in_order_of_name_and_hidden_ones_not_at_all(data: Path) -> None:
    (data / "b.txt").write_text("two\n")
    (data / "a").mkdir()
    (data / "a" / "z.md").write_text("one\n\n")
    (data / ".notes.txt").write_text("no")
    assert read(data.parent) == [(Turn("text", "one"),), (Turn("text", "two"),)]


def test_a_text_file_is_one_document_unless_it_says_otherwise(data: Path) -> None:
    (data / "a.txt").write_bytes("\ufeffOne.\r\n\r\nStill one.\n<|endoftext|>\nTwo.\n<|endoftext|>\n".encode())
    assert [document[0].text for document in read(data.parent)] == ["One.\n\nStill one.", "Two."]


def test_jsonl_holds_texts_and_conversations(data: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    (data / "a.jsonl").write_text(json.dumps({"text": "t"}) + "\n\n" + json.dumps({"messages": messages}) + "\n")
    assert read(data.parent) == [(Turn("text", "t"),), (Turn("user", "Hi"), Turn("assistant", "Hello"))]


def test_the_text_may_have_another_field(data: Path) -> None:
    (data / "a.jsonl").write_text('{"story": "s"}')
    assert read(data.parent, "story") == [(Turn("text", "s"),)]


def test_invalid_utf8_is_refused_with_byte_and_line(data: Path) -> None:
    (data / "a.txt").write_bytes(b"fine\nfine\nbad \xe9t\xe9\n")
    with pytest.raises(BadFileError, match=r"a.txt is not UTF-8 at byte 14 \(line 3\): 0xe9"):
        read(data.parent)


def test_a_binary_file_is_refused_with_offset(data: Path) -> None:
    (data / "a.txt").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(BadFileError, match=r"binary file \(a zero byte at byte 5\)"):
        read(data.parent)


def test_an_unknown_kind_of_file_is_refused(data: Path) -> None:
    (data / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(BadFileError, match=r"a.pdf is of a kind that is not read"):
        read(data.parent)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 100_000, "line 2: not JSON"),
        ("[1]", "found list"),
        ('{"body": "x"}', "found 'body'"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', "message 1: expected a role"),
        ('{"messages": [{"role": "user"}]}', "message 1: expected a role"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "without an answer"),
        ('{"text": "\\ud800"}', "half a surrogate pair at character 0"),
    ],
)
def test_a_bad_line_of_jsonl_is_refused_with_its_number(data: Path, line: str, words: str) -> None:
    (data / "a.jsonl").write_text(f'{{"text": "fine"}}\n{line}\n')
    with pytest.raises(BadFileError) as caught:
        read(data.parent)
    assert "a.jsonl, line 2" in caught.value.message
    assert words in caught.value.message


def test_no_data_say_where_to_put_them(data: Path) -> None:
    with pytest.raises(BadFileError, match="There are no data"):
        read(data.parent)
    with pytest.raises(NotFoundError, match="'other'"):
        find_files(data.parent, ["other"])


def test_a_link_in_the_data_is_not_followed(data: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (data / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(StorageError):
        read(data.parent)


def test_the_digest_changes_with_content_and_with_name(data: Path) -> None:
    (data / "a.txt").write_text("x")
    first = data_digest(find_files(data.parent, ["data"]))
    (data / "a.txt").rename(data / "b.txt")
    assert data_digest(find_files(data.parent, ["data"])) != first


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".txt", ".jsonl"]))
@settings(max_examples=150)
def test_any_bytes_are_read_or_refused(tmp_path: Path, content: bytes, suffix: str) -> None:
    (tmp_path / f"a{suffix}").write_bytes(content)
    with contextlib.suppress(BadFileError):
        for document in read_documents(find_files(tmp_path, [f"a{suffix}"])):
            assert all(turn.text.encode().decode() == turn.text for turn in document)
