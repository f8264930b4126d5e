"""Reads catalogue files: TOML (or JSON, from repositories) into checked entries, with errors that name the place."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pantry.catalogue.schema import KINDS, Entry, Family, Source
from pantry.core.errors import BadFileError, did_you_mean
from pantry.core.files import storage_errors

MAX_FILE = 200_000_000  # bytes; 100,000 entries take about 100 MB of JSON
SUFFIXES = (".toml", ".json")
BUILTIN = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Loaded:
    """One entry and the file it came from. `origin` is `builtin`, `overlay`, or a repository and its version."""

    kind: str
    entry: Entry | Source | Family
    origin: str


def catalogue_files(folder: Path) -> list[Path]:
    """The catalogue files under `folder`, sorted; none when the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def read_file(file: Path, origin: str) -> Iterator[Loaded]:
    """The entries of one file, checked.

    Raises BadFileError that names the file, the line (for TOML), the entry and the field.
    """
    with storage_errors(f"Reading {file.name}"):
        content = file.read_bytes() if file.stat().st_size <= MAX_FILE else None
    if content is None:
        raise BadFileError(f"{file} is larger than {MAX_FILE} bytes.", hint="Split it into several files.")
    yield from read_content(content, str(file), origin)


def read_content(content: bytes, name: str, origin: str) -> Iterator[Loaded]:
    """The entries in `content`; `name` says in errors where it came from, and its suffix which format it is."""
    text, document = _parse(content, name)
    document.pop("catalogue", None)
    family = _family(document.pop("family", None), name, text)
    if family is not None:
        yield Loaded("family", family, origin)
    for kind, rows in document.items():
        shape = KINDS.get(kind)
        if shape is None:
            hint = did_you_mean(kind, KINDS, f"Known kinds: {', '.join(sorted(KINDS))}.")
            raise BadFileError(f"{_place(name, text, kind)}: there is no kind of entry {kind!r}.", hint=hint)
        if not isinstance(rows, list):
            raise BadFileError(f"{_place(name, text, kind)}: {kind!r} must be a list, written [[{kind}]].")
        for number, row in enumerate(rows):
            if kind == "model" and family is not None and isinstance(row, dict):
                row = {"family": family.id, "organisation": family.organisation} | row
            try:
                yield Loaded(kind, shape.model_validate(row), origin)
            except ValidationError as error:
                raise BadFileError(_explain(error, name, text, kind, number, row)) from None


def _parse(content: bytes, name: str) -> tuple[str, dict[str, Any]]:
    try:
        text = content.decode()
        document = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFileError(f"{name} cannot be read: {error}.") from None
    if not isinstance(document, dict):
        raise BadFileError(f"{name} must hold a table of kinds, found {type(document).__name__}.")
    return text, document


def _family(value: object, name: str, text: str) -> Family | None:
    if value is None:
        return None
    try:
        return Family.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadFileError(f"{_place(name, text, 'family')}: field {field!r}: {first['msg']}.") from None


def _explain(error: ValidationError, name: str, text: str, kind: str, number: int, row: object) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    label = repr(row["id"]) if isinstance(row, dict) and isinstance(row.get("id"), str) else f"number {number + 1}"
    given = "" if first["type"] in ("missing", "extra_forbidden") else f", got {_short(first['input'])}"
    place = _place(name, text, kind, number, str(first["loc"][0]) if first["loc"] else "")
    return f"{place}: {kind} {label}, field {field!r}: {first['msg']}{given}."


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _place(name: str, text: str, kind: str, number: int = 0, field: str = "") -> str:
    """`file:line` of a field, of its entry when the field is absent; only the name for JSON."""
    if name.endswith(".json"):
        return name
    line = _line_of(text.splitlines(), kind, number, field)
    return f"{name}:{line}" if line else name


def _line_of(lines: list[str], kind: str, number: int, field: str) -> int | None:
    head = re.compile(rf"\s*\[{{1,2}}\s*{re.escape(kind)}\s*\]{{1,2}}")
    key = re.compile(rf"\s*(\[+\s*{re.escape(kind)}\.)?[\"']?{re.escape(field)}[\"']?\s*[=.\]]")
    starts = [index for index, line in enumerate(lines) if head.match(line)]
    if not starts:
        return next((i + 1 for i, line in enumerate(lines) if re.match(rf"\s*{re.escape(kind)}\s*=", line)), None)
    if number >= len(starts):
        return None
    first = starts[number]
    last = starts[number + 1] if number + 1 < len(starts) else len(lines)
    if field:
        for index in range(first + 1, last):
            if key.match(lines[index]):
                return index + 1
    return first + 1
