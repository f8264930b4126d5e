"""Where documents come from: files of the kinds listed here, and folders of them; one contract for every source.

A faulty source stops the reading with its name and place; nothing is skipped silently.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.files import storage_errors
from pantry.flatpack.folder import open_plain
from pantry.workshop.data import jsonl, parquet, text_files
from pantry.workshop.data.documents import Document

_PROBE = 1 << 16  # bytes looked at to tell text from binary


class DocumentSource(Protocol):
    """A place that documents are read from: a file, or a dataset at one revision."""

    @property
    def line(self) -> str:
        """What goes into the digest of the data: it changes when the content does."""

    def documents(self, text_field: str) -> Iterator[Document]:
        """The documents in their order; a part is read when it is asked for.

        Raises BadFileError that names the source and the place in it, StorageError.
        """


@dataclass(frozen=True)
class FileKind:
    """A kind of file: its suffixes, and what reads one from path, name and the field with the text."""

    suffixes: tuple[str, ...]
    read: Callable[[Path, str, str], Iterator[Document]]
    binary: bool = False


FILE_KINDS = (
    FileKind(text_files.SUFFIXES, text_files.read_text),
    FileKind(jsonl.SUFFIXES, jsonl.read_jsonl),
    FileKind((parquet.SUFFIX,), parquet.read_parquet, binary=True),
)


@dataclass(frozen=True)
class DataFile:
    """A file of the data: its path, its name inside the folder, size in bytes and digest `sha256:<hex>`."""

    path: Path
    name: str
    size: int
    digest: str
    kind: FileKind

    @property
    def line(self) -> str:
        return f"{self.digest} {self.name}\n"

    def documents(self, text_field: str) -> Iterator[Document]:
        with storage_errors(f"Reading {self.name}"):
            yield from self.kind.read(self.path, self.name, text_field)


def find_files(folder: Path, data: Sequence[str], *, required: bool = True) -> list[DataFile]:
    """The files that `data` names in `folder`, sorted, each with its digest. Hidden files are passed over.

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
            raise NotFoundError(f"{name!r} is named as data, and is not in {folder}.")
    if not paths and required:
        raise BadFileError(
            f"There are no data in {', '.join(repr(name) for name in data)} of {folder}.",
            hint="Put .txt, .md, .jsonl or .parquet files there.",
        )
    return [_data_file(folder, name, path) for name, path in sorted(paths.items())]


def data_digest(sources: Iterable[DocumentSource]) -> str:
    """One digest over what all sources hold, as `sha256:<hex>`."""
    text = "".join(source.line for source in sources)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def read_documents(sources: Iterable[DocumentSource], text_field: str = "text") -> Iterator[Document]:
    """The documents of all sources in order. Raises BadFileError with source and place."""
    for source in sources:
        yield from source.documents(text_field)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _data_file(folder: Path, name: str, path: Path) -> DataFile:
    kind = _kind_of(path, name)
    with storage_errors(f"Reading {name}"), os.fdopen(open_plain(folder, name), "rb") as file:
        start = b"" if kind.binary else file.read(_PROBE)
        if (zero := start.find(b"\0")) >= 0:
            raise BadFileError(
                f"{name} is a binary file (a zero byte at byte {zero}), not text.",
                hint="Take it out of the data, or save it as UTF-8 text.",
            )
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return DataFile(path, name, path.stat().st_size, f"sha256:{digest}", kind)


def _kind_of(path: Path, name: str) -> FileKind:
    suffix = path.suffix.lower()
    for kind in FILE_KINDS:
        if suffix in kind.suffixes:
            return kind
    raise BadFileError(
        f"{name} is of a kind that is not read: {suffix}.",
        hint="Data are .txt, .md or .jsonl files, in UTF-8, or .parquet files.",
    )
