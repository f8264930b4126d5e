"""What a model file says of itself: its format, and the facts in its header."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pantry.core.errors import BadFileError, UsageError
from pantry.core.foreign_json import parse_file_json
from pantry.core.refs import ModelName
from pantry.core.units import printable
from pantry.formats.gguf import GGUFHeader, read_header
from pantry.formats.split import part_name

_MAX_ECHO = 1_000_000  # bytes
MAX_FACT = 400  # characters of a text from a model file that are kept


def inspect_file(file: Path) -> tuple[str, dict[str, Any]]:
    """The format of a model file and the facts in its header. Raises BadFileError for anything Pantry cannot run."""
    if file.exists() and not file.is_file():
        raise UsageError(f"{file} is not a regular file.", hint="Name a model file, like model.gguf.")
    if file.suffix == ".echo":
        return "echo", _echo_facts(file)
    return "gguf", gguf_facts(read_header(file))


def gguf_facts(header: GGUFHeader) -> dict[str, Any]:
    """The facts of a GGUF header that listing, selection and memory estimates use."""
    facts = {
        "architecture": header.architecture,
        "title": header.name,
        "parameters": header.parameters,
        "quantisation": header.quantisation,
        "context": header.context_length,
        "licence": header.text("general.license"),
        "description": header.text("general.description"),
        "chat": header.chat_template is not None,
    }
    if not header.tensors:
        raise BadFileError("The file holds no tensors: it is a vocabulary, not a model.")
    if (parts := header.number("split.count") or 1) > 1:
        raise BadFileError(f"The file is one of {parts} parts of a model.", hint="Add it where the others lie beside.")
    blocks = header.number("block_count")
    if blocks is None or not 1 <= blocks <= len(header.tensors):
        raise BadFileError(f"The file claims {blocks} blocks with {len(header.tensors)} tensors: it is damaged.")
    if header.context_length is not None and header.context_length < 1:
        raise BadFileError(f"The file claims a context of {header.context_length} tokens: it is damaged.")
    return {key: printable(value)[:MAX_FACT] if isinstance(value, str) else value for key, value in facts.items()}


def merge_facts(facts: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """The facts of a header with what a manifest or repository tells beside them; empty values tell nothing.

    The header's own licence is kept as `header_licence`: both bind.
    """
    given = {key: value for key, value in told.items() if value}
    if "licence" in given and facts.get("licence"):
        given["header_licence"] = facts["licence"]
    return facts | given


def name_from_file(file: Path) -> ModelName:
    """A model name from a file name: `Qwen3-0.6B-Q8_0.gguf` becomes `qwen3-0.6b-q8_0`."""
    part = part_name(file.name)
    stem = part.stem if part else file.stem
    text = re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._")
    if not text:
        raise UsageError(f"{file.name!r} gives no model name.", hint="Give one with --name.")
    return ModelName.parse(re.sub(r"\.{2,}", ".", text)[:128].strip("-._"))


def _echo_facts(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            raw = opened.read(_MAX_ECHO + 1)
    except OSError as error:
        raise BadFileError(f"{file.name} is not an echo model: {error}") from None
    if len(raw) > _MAX_ECHO:
        raise BadFileError(f"{file.name} is not an echo model: it is larger than {_MAX_ECHO} bytes.")
    content = parse_file_json(raw, f"The echo model {file.name}")
    if not isinstance(content, dict):
        raise BadFileError(f"{file.name} is not an echo model: expected a JSON object.")
    context = content.get("context", 512)
    if not isinstance(context, int) or context < 1:
        raise BadFileError(f"{file.name} is not an echo model: context is {context!r}.")
    return {"architecture": "echo", "context": context, "chat": True}
