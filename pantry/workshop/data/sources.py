"""Reads training text: text files, JSONL and Parquet with texts or conversations, and folders of them.

A faulty file stops the training with its name and place; nothing is skipped silently.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.files import storage_errors
from pantry.flatpack.folder import open_plain
from pantry.workshop.data.documents import TEXT, Document, Turn, read_record
from pantry.workshop.data.parquet import SUFFIX as PARQUET
from pantry.workshop.data.parquet import read_parquet

TEXT_SUFFIXES = (".txt", ".md", ".text", "")
JSONL_SUFFIXES = (".jsonl", ".ndjson")
DOCUMENT_END = "<|endoftext|>"
"""A line of a text file that says only this ends a document."""
MAX_LINE = 64 << 20
_PROBE = 1 << 16  # bytes looked at to tell text from binary


@dataclass(frozen=True)
class DataFile:
    """A file of the data: its path, its name inside the folder, size in bytes and digest `sha256:<hex>`."""

    path: Path
    name: str
    size: int
    digest: str


def find_files(folder: Path, data: Sequence[str], *, required: bool = True) -> list[DataFile]:
    """The files that the recipe's data names, sorted, each with its digest. Hidden files are passed over.

    Raises BadFileError for a kind that is not read; if `required`, NotFoundError for a name that is not there, and
    BadFileError when there is no file.
    """
    paths: dict[str, Path] = {}
    for name in data:
        place = folder / name
        if place.is_dir():
            inner = (path for path in sorted(place.rglob("*")) if path.is_file())
            paths |= {str(path.relative_to(folder)): path for path in inner if not _hidden(path.relative_to(place))}
        elif place.is_file():
            paths[name] = place
        elif required:
            raise NotFoundError(f"The recipe names {name!r} as data, which is not in {folder}.")
    if not paths and required:
        raise BadFileError(
            f"There are no data in {', '.join(repr(name) for name in data)} of {folder}.",
            hint="Put .txt, .md, .jsonl or .parquet files there.",
        )
    return [_data_file(folder, name, path) for name, path in sorted(paths.items())]


def data_digest(files: Sequence[DataFile], more: str = "") -> str:
    """One digest over the names and digests of all files, and over `more`, what else the data are."""
    text = "".join(f"{file.digest} {file.name}\n" for file in files) + more
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_documents(files: Sequence[DataFile], text_field: str = "text") -> Iterator[Document]:
    """The documents of all files in order. Raises BadFileError with file and place."""
    for file in files:
        with storage_errors(f"Reading {file.name}"):
            suffix = file.path.suffix.lower()
            if suffix in JSONL_SUFFIXES:
                yield from _read_jsonl(file, text_field)
            elif suffix == PARQUET:
                yield from read_parquet(file.path, file.name, text_field)
            else:
                yield from _read_text(file)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _data_file(folder: Path, name: str, path: Path) -> DataFile:
    suffix = path.suffix.lower()
    if suffix not in (*TEXT_SUFFIXES, *JSONL_SUFFIXES, PARQUET):
        raise BadFileError(
            f"{name} is of a kind that is not read: {suffix}.",
            hint="Data are .txt, .md or .jsonl files, in UTF-8, or .parquet files.",
        )
    with storage_errors(f"Reading {name}"), os.fdopen(open_plain(folder, name), "rb") as file:
        start = b"" if suffix == PARQUET else file.read(_PROBE)
        if (zero := start.find(b"\0")) >= 0:
            raise BadFileError(
                f"{name} is a binary file (a zero byte at byte {zero}), not text.",
                hint="Take it out of the data, or save it as UTF-8 text.",
            )
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return DataFile(path, name, path.stat().st_size, f"sha256:{digest}")


def _decode(content: bytes, name: str, offset: int, line: int) -> str:
    """`content` as text; `offset` (bytes) and `line` say where in the file it begins."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        at = offset + error.start
        number = line + content.count(b"\n", 0, error.start)
        raise BadFileError(
            f"{name} is not UTF-8 at byte {at} (line {number}): {content[error.start]:#04x}.",
            hint=f"Convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 {name}",
        ) from None


def _read_text(file: DataFile) -> Iterator[Document]:
    """The texts of a file: all of it, or the parts between lines that say `<|endoftext|>`."""
    parts: list[str] = []
    offset = 0
    with file.path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = _decode(line, file.name, offset, number).replace("\r\n", "\n")
            offset += len(line)
            if number == 1:
                text = text.removeprefix("\ufeff")
            if text.strip() != DOCUMENT_END:
                parts.append(text)
                continue
            yield from _text_document(parts)
            parts = []
    yield from _text_document(parts)


def _text_document(parts: list[str]) -> Iterator[Document]:
    if text := "".join(parts).strip("\n"):
        yield (Turn(TEXT, text),)


def _read_jsonl(file: DataFile, text_field: str) -> Iterator[Document]:
    offset = 0
    with file.path.open("rb") as lines:
        number = 0
        while line := lines.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise BadFileError(f"{file.name}, line {number}: longer than {MAX_LINE} bytes.")
            text = _decode(line, file.name, offset, number).removeprefix("\ufeff" if number == 1 else "")
            offset += len(line)
            if text.strip():
                yield from read_record(_parse(text, file.name, number), text_field, f"{file.name}, line {number}")


def _parse(text: str, name: str, number: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadFileError(f"{name}, line {number}: not JSON: {error.msg} at column {error.colno}.") from None
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{name}, line {number}: not JSON: {error}.") from None
