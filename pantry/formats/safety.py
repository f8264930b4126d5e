"""Is this file safe to open? One scan for every format Pantry meets; nothing is loaded, rendered or run."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.core.files import read_bounded, storage_errors
from pantry.core.foreign_json import parse_file_json
from pantry.formats import gguf, safetensors
from pantry.formats.chat_template.scan import check_template
from pantry.formats.pickle import SUFFIXES, looks_like_pickle, scan_pickle
from pantry.formats.verdict import FormatVerdict, SafetyFinding

PICKLE_SUFFIXES = (*SUFFIXES, ".bin", ".pt", ".pth", ".ckpt", ".joblib")
MAX_TEXT = 50_000_000  # bytes of a JSON or template file that are read
_HARMLESS = (".md", ".txt", ".toml", ".yaml", ".model", ".vocab", ".merges", ".gitattributes", ".lock")


def scan(path: Path, name: str | None = None) -> FormatVerdict:
    """Scan one file by what it begins with, then by its name: `name` where it is not that on disk.

    Damage is a refusal; an unknown format is `unknown`. Raises StorageError when the file cannot be read.
    """
    with storage_errors(f"Reading {path.name}"), path.open("rb") as file:
        start = file.read(16)
    suffix = Path(name or path).suffix.lower()
    try:
        return _scan(path, start, suffix)
    except BadFileError as error:
        return FormatVerdict(suffix.lstrip(".") or "file", (SafetyFinding("refused", error.message),))


def scan_folder(folder: Path) -> Iterator[tuple[Path, FormatVerdict]]:
    """Scan every file under `folder`, in order of their paths."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path, scan(path)


def scan_gguf(header: gguf.GGUFHeader) -> FormatVerdict:
    """What the header of a GGUF file carries beside numbers: its chat templates."""
    findings = []
    for key, value in header.metadata.items():
        if "chat_template" in key.lower():
            findings += [_within(key, finding) for text in _texts(value) for finding in check_template(text)]
    return FormatVerdict("gguf", tuple(findings))


def _scan(path: Path, start: bytes, suffix: str) -> FormatVerdict:
    if start.startswith(gguf.MAGIC):
        return scan_gguf(gguf.read_header(path))
    if looks_like_pickle(start) or suffix in SUFFIXES or (suffix in PICKLE_SUFFIXES and not _is_other(start)):
        return scan_pickle(path)
    if start.startswith(b"PK") and zipfile.is_zipfile(path):
        return scan_pickle(path)
    if suffix == ".safetensors" or start[8:9] == b"{":
        safetensors.read_header(path)
        return FormatVerdict("safetensors")
    if suffix == ".json":
        return FormatVerdict("json", tuple(_of_json(path)))
    if suffix in (".jinja", ".j2"):
        return FormatVerdict("chat template", check_template(_text(path)))
    if suffix in _HARMLESS:
        return FormatVerdict("text")
    return FormatVerdict("unknown", (SafetyFinding("unknown", "a format that Pantry cannot judge"),))


def _is_other(start: bytes) -> bool:
    return start.startswith(b"PK") or start[8:9] == b"{"


def _of_json(path: Path) -> Iterator[SafetyFinding]:
    """The chat templates in a JSON file, at any depth and in any layout, and what asks for code of its own."""
    templates: list[tuple[str, object]] = []
    code: list[str] = []

    def look(pairs: list[tuple[str, object]]) -> dict[str, object]:
        for key, value in pairs:
            if "chat_template" in key.lower():
                templates.append((key, value))
            elif key == "auto_map" or key == "custom_pipelines" or (key == "trust_remote_code" and value):
                code.append(key)
        return dict(pairs)

    parse_file_json(_text(path).encode(), path.name, look)
    for key, value in templates:
        for text in _texts(value):
            for finding in check_template(text):
                yield _within(key, finding)
    for key in dict.fromkeys(code):
        yield SafetyFinding(
            "warning", "asks other programs to run code that comes with the model; Pantry does not", key
        )


def _texts(value: object) -> Iterator[str]:
    """Every text in a JSON value, keys of objects left out; depth was bounded when it was parsed."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _text(path: Path) -> str:
    content = read_bounded(path, MAX_TEXT, name=path.name)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise BadFileError(f"{path.name} is not UTF-8 text: {error}.") from None


def _within(key: str, finding: SafetyFinding) -> SafetyFinding:
    return SafetyFinding(finding.level, finding.what, f"{key}, {finding.where}" if finding.where else key)
