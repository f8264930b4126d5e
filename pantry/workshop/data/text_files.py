"""Reads plain text in UTF-8: a file is one document, or several between lines that say `<|endoftext|>`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.workshop.data.documents import TEXT, Document, Turn

SUFFIXES = (".txt", ".md", ".text", "")
DOCUMENT_END = "<|endoftext|>"
"""A line of a text file that says only this ends a document."""


def read_text(path: Path, name: str, _text_field: str) -> Iterator[Document]:
    """The texts of a file, a document in memory at a time. Raises BadFileError with byte and line."""
    parts: list[str] = []
    offset = 0
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            text = decode(line, name, offset, number).replace("\r\n", "\n")
            offset += len(line)
            if number == 1:
                text = text.removeprefix("\ufeff")
            if text.strip() != DOCUMENT_END:
                parts.append(text)
                continue
            yield from _document(parts)
            parts = []
    yield from _document(parts)


def decode(content: bytes, name: str, offset: int, line: int) -> str:
    """`content` as text; `offset` (bytes) and `line` say where in the file it begins. Raises BadFileError."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        at = offset + error.start
        number = line + content.count(b"\n", 0, error.start)
        raise BadFileError(
            f"{name} is not UTF-8 at byte {at} (line {number}): {content[error.start]:#04x}.",
            hint=f"Convert it, for example: iconv -f WINDOWS-1252 -t UTF-8 {name}",
        ) from None


def _document(parts: list[str]) -> Iterator[Document]:
    if text := "".join(parts).strip("\n"):
        yield (Turn(TEXT, text),)
