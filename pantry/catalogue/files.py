"""Reads catalogue files: TOML (or JSON, from repositories) into checked entries, with errors that name the place."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pantry.catalogue._base import FORMS
from pantry.catalogue.schema import KINDS, Entry, Family, Source
from pantry.core.errors import BadFileError, PantryError, StorageError, did_you_mean
from pantry.core.files import storage_errors

MAX_FILE = 200_000_000  # bytes; 100,000 entries take about 100 MB of JSON
SUFFIXES = (".toml", ".json")
BUILTIN = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Loaded:
    """One entry and where it comes from. `origin` is `builtin`, `overlay`, or a repository and its version."""

    kind: str
    entry: Entry | Source | Family
    origin: str
    file: str = ""
    number: int = 0
    """Its place among the entries of its kind in `file`."""


def catalogue_files(folder: Path) -> list[Path]:
    """The catalogue files under `folder`, sorted; none when the folder does not exist."""
    if not folder.is_dir():
        return []
    return sorted(file for file in folder.rglob("*") if file.suffix in SUFFIXES and file.is_file())


def read_file(file: Path, origin: str) -> Iterator[Loaded]:
    """The entries of one file, checked.

    Raises BadFileError that names the file, the line (for TOML), the entry and the field, and StorageError.
    """
    for each in examine_file(file, origin):
        if isinstance(each, PantryError):
            raise each
        yield each


def examine_file(file: Path, origin: str) -> Iterator[Loaded | PantryError]:
    """As `read_file`, but a wrong entry is given as its error, and the others follow."""
    try:
        with storage_errors(f"Reading {file.name}"):
            content = file.read_bytes() if file.stat().st_size <= MAX_FILE else None
    except StorageError as error:
        yield error
        return
    if content is None:
        yield BadFileError(f"{file} is larger than {MAX_FILE} bytes.", hint="Split it into several files.")
        return
    yield from examine_content(content, str(file), origin)


def examine_files(files: Sequence[tuple[Path, str]]) -> tuple[list[Loaded], list[str]]:
    """The right entries of all files, each given with its origin, and what is wrong with the others."""
    found: list[Loaded] = []
    problems = []
    for file, origin in files:
        for each in examine_file(file, origin):
            if isinstance(each, PantryError):
                problems.append(str(each))
            else:
                found.append(each)
    return found, problems


def read_content(content: bytes, name: str, origin: str) -> Iterator[Loaded]:
    """The entries in `content`; `name` says in errors where it came from, and its suffix which format it is."""
    for each in examine_content(content, name, origin):
        if isinstance(each, BadFileError):
            raise each
        yield each


def examine_content(content: bytes, name: str, origin: str) -> Iterator[Loaded | BadFileError]:
    """As `read_content`, but a wrong entry is given as its error, and the others follow."""
    try:
        text, document = _parse(content, name)
    except BadFileError as error:
        yield error
        return
    document.pop("catalogue", None)
    heads = document.pop("family", [])
    several = isinstance(heads, list)
    head: dict[str, Any] = {}
    for number, row in enumerate(heads if several else [heads]):
        found = _checked("family", Family, row, name, text, number)
        if not several and isinstance(found, Family):
            head = {"family": found.id, "organisation": found.organisation}
        yield found if isinstance(found, BadFileError) else Loaded("family", found, origin, name, number)
    for kind, rows in document.items():
        shape = KINDS.get(kind)
        if shape is None or not isinstance(rows, list):
            yield _no_kind(kind, shape is not None, name, text)
            continue
        for number, row in enumerate(rows):
            if kind == "model" and head and isinstance(row, dict):
                row = head | row
            one = _checked(kind, shape, row, name, text, number)
            yield one if isinstance(one, BadFileError) else Loaded(kind, one, origin, name, number)


def _checked(
    kind: str, shape: type[Entry | Source | Family], row: object, name: str, text: str, number: int
) -> Entry | Source | Family | BadFileError:
    try:
        return shape.model_validate(row)
    except ValidationError as error:
        return BadFileError(_explain(error, name, text, kind, number, row))


def _no_kind(kind: str, exists: bool, name: str, text: str) -> BadFileError:
    place = _place(name, text, kind)
    if exists:
        return BadFileError(f"{place}: {kind!r} must be a list, written [[{kind}]].")
    hint = did_you_mean(kind, KINDS, f"Known kinds: {', '.join(sorted(KINDS))}.")
    return BadFileError(f"{place}: there is no kind of entry {kind[:80]!r}.", hint=hint)


def _parse(content: bytes, name: str) -> tuple[str, dict[str, Any]]:
    """The text and its table. Numbers of thousands of digits and endless nesting are errors like any other."""
    try:
        text = content.decode()
        document = json.loads(text) if name.endswith(".json") else tomllib.loads(text)
    except RecursionError:
        raise BadFileError(f"{name} cannot be read: it is nested too deeply.") from None
    except ValueError as error:
        raise BadFileError(f"{name} cannot be read: {error}.") from None
    if not isinstance(document, dict):
        raise BadFileError(f"{name} must hold a table of kinds, found {type(document).__name__}.")
    return text, document


def _explain(error: ValidationError, name: str, text: str, kind: str, number: int, row: object) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    label = repr(row["id"][:80]) if isinstance(row, dict) and isinstance(row.get("id"), str) else f"number {number + 1}"
    given = "" if first["type"] in ("missing", "extra_forbidden") else f", got {_short(first['input'])}"
    place = _place(name, text, kind, number, str(first["loc"][0]) if first["loc"] else "")
    form = FORMS.get(first.get("ctx", {}).get("pattern", ""))
    what = f"Input should be {form}" if form else first["msg"]
    return f"{place}: {kind} {label}, field {field!r}: {what}{given}."


def place_of(each: Loaded, field: str = "") -> str:
    """`file:line` of an entry, or of one of its fields; the name of the file where it has no lines or is gone."""
    file = Path(each.file)
    if file.suffix != ".toml" or not file.is_file():
        return each.file or each.origin
    return _place(each.file, file.read_text(errors="replace"), each.kind, each.number, field)


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
