"""Reads JSONL: one record a line, with a text or a conversation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pantry.core.errors import BadFileError
from pantry.workshop.data.documents import Document, read_record
from pantry.workshop.data.text_files import decode

SUFFIXES = (".jsonl", ".ndjson")
MAX_LINE = 64 << 20
"""Bytes of a line."""


def read_jsonl(path: Path, name: str, text_field: str) -> Iterator[Document]:
    """The documents of the lines; empty lines and empty texts are none. Raises BadFileError with the line."""
    offset = number = 0
    with path.open("rb") as lines:
        while line := lines.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise BadFileError(f"{name}, line {number}: longer than {MAX_LINE} bytes.")
            text = decode(line, name, offset, number).removeprefix("\ufeff" if number == 1 else "")
            offset += len(line)
            if text.strip():
                yield from read_record(_parse(text, name, number), text_field, f"{name}, line {number}")


def _parse(text: str, name: str, number: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadFileError(f"{name}, line {number}: not JSON: {error.msg} at column {error.colno}.") from None
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{name}, line {number}: not JSON: {error}.") from None
