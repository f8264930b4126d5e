"""Every source of documents keeps one contract: same records, faults with their place, a digest, no reading ahead."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from pantry.core.errors import BadFileError
from pantry.workshop.data.corpus import find_corpus
from pantry.workshop.data.documents import Turn
from pantry.workshop.data.settings import DataSettings
from pantry.workshop.data.sources import FILE_KINDS, DocumentSource, data_digest, read_documents
from pantry.workshop.data.text_files import DOCUMENT_END

TEXTS = ["One.\n\nStill one.", "Zwölf Boxkämpfer", "日本語 🙂", "<|im_start|> [x] \\n"]
Write = Callable[[Path, list[str | None]], None]
"""Writes records; None stands for one that cannot be read."""


def write_text(folder: Path, records: list[str | None]) -> None:
    parts = [b"\xff" if record is None else record.encode() for record in records]
    (folder / "a.txt").write_bytes(f"\n{DOCUMENT_END}\n".encode().join(parts))


def write_jsonl(folder: Path, records: list[str | None]) -> None:
    lines = ["{" if record is None else json.dumps({"text": record}) for record in records]
    (folder / "a.jsonl").write_text("\n".join(lines))


def write_parquet(folder: Path, records: list[str | None]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    if None in records:
        rows = [[{"role": "assistant" if r else "robot", "content": r or ""}] for r in records]
        pq.write_table(pa.table({"messages": rows}), folder / "a.parquet")
    else:
        pq.write_table(pa.table({"text": records}), folder / "a.parquet")


def write_dataset(folder: Path, records: list[str | None]) -> None:
    pytest.importorskip("datasets")
    (folder / "set").mkdir(exist_ok=True)
    write_parquet(folder / "set", records)
    (folder / "set" / "a.parquet").rename(folder / "set" / "train-00000-of-00001.parquet")


SOURCES: dict[str, tuple[Write, str]] = {
    ".txt": (write_text, "a.txt is not UTF-8 at byte 41 (line 5)"),
    ".jsonl": (write_jsonl, "a.jsonl, line 3"),
    ".parquet": (write_parquet, "a.parquet, row 3"),
    "dataset": (write_dataset, "./set, row 3"),
}
"""How each kind is written, and how it names the third record as the faulty one."""

each_source = pytest.mark.parametrize("kind", SOURCES)


def source_in(tmp_path: Path, kind: str, records: list[str | None]) -> DocumentSource:
    """The one source of a fresh corpus with the records."""
    write = SOURCES[kind][0]
    folder = tmp_path / "folder"
    (folder / "data").mkdir(parents=True, exist_ok=True)
    write(folder if kind == "dataset" else folder / "data", records)
    settings = DataSettings(dataset="./set" if kind == "dataset" else "")
    (source,) = find_corpus(folder, ["data"], settings, tmp_path / "room").sources
    return source


def test_every_kind_of_file_is_under_the_contract() -> None:
    for kind in FILE_KINDS:
        assert SOURCES.keys() & set(kind.suffixes), f"no case for {kind.suffixes}"


@each_source
def test_the_same_records_give_the_same_documents_each_time(tmp_path: Path, kind: str) -> None:
    source = source_in(tmp_path, kind, list(TEXTS))
    wanted = [(Turn("text", text),) for text in TEXTS]
    assert list(source.documents("text")) == wanted
    assert list(read_documents([source, source])) == 2 * wanted


@each_source
def test_a_fault_names_source_and_place_and_only_when_it_is_reached(tmp_path: Path, kind: str) -> None:
    source = source_in(tmp_path, kind, ["first", "second", None])
    documents = source.documents("text")
    assert [next(documents)[0].text, next(documents)[0].text] == ["first", "second"]
    with pytest.raises(BadFileError) as caught:
        next(documents)
    assert SOURCES[kind][1] in caught.value.message


@each_source
def test_the_digest_changes_with_the_content_alone(tmp_path: Path, kind: str) -> None:
    first = data_digest([source_in(tmp_path, kind, list(TEXTS))])
    assert data_digest([source_in(tmp_path, kind, list(TEXTS))]) == first
    assert data_digest([source_in(tmp_path, kind, [*TEXTS, "more"])]) != first


def test_the_digest_of_files_is_that_of_earlier_versions(tmp_path: Path) -> None:
    source = source_in(tmp_path, ".txt", ["x"])
    line = f"sha256:{hashlib.sha256(b'x').hexdigest()} data/a.txt\n"
    assert data_digest([source]) == f"sha256:{hashlib.sha256(line.encode()).hexdigest()}"


@each_source
def test_nothing_is_read_before_the_first_document_is_asked_for(tmp_path: Path, kind: str) -> None:
    source = source_in(tmp_path, kind, list(TEXTS))
    documents = source.documents("text")
    if kind != "dataset":
        (tmp_path / "folder" / "data" / f"a{kind}").unlink()
    assert not (tmp_path / "room").exists()
    documents.close()  # type: ignore[attr-defined]


@pytest.mark.skipif(not find_spec("pyarrow"), reason="needs pyarrow")
def test_a_corpus_reads_files_in_order_of_name_and_leaves_out_repeats(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data", ["b", "c"])
    write_parquet(tmp_path / "data", ["c", "d"])
    write_text(tmp_path / "data", ["d", "e", "b"])
    corpus = find_corpus(tmp_path, ["data"], DataSettings(), tmp_path / "room")
    assert [document[0].text for document in corpus.documents()] == ["b", "c", "d", "e"]
