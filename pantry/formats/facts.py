"""The facts that one-file models tell of themselves, as listing, selection and memory estimates use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pantry.core.errors import BadFileError
from pantry.core.foreign_json import parse_file_json
from pantry.core.units import printable
from pantry.formats.gguf import GGUFHeader

MAX_FACT = 400  # characters of a text from a model file that are kept
_MAX_ECHO = 1_000_000  # bytes


def gguf_facts(header: GGUFHeader) -> dict[str, Any]:
    """The facts of a GGUF header. Raises BadFileError when it is not that of a whole model."""
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
    return shortened(facts)


def shortened(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with every text made printable and cut to what is kept: strangers wrote it."""
    return {key: printable(value)[:MAX_FACT] if isinstance(value, str) else value for key, value in facts.items()}


def echo_facts(file: Path) -> dict[str, Any]:
    """The facts of an echo model, a JSON object. Raises BadFileError when it is not one."""
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
