"""What a model file says of itself: its format, and the facts in its header."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pantry.core.errors import UsageError
from pantry.core.refs import ModelName
from pantry.formats.split import part_name

_MAX_ECHO = 1_000_000  # bytes
MAX_FACT = 400  # characters of a text from a model file that are kept


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
    return name_from_text(stem)


def name_from_text(given: str) -> ModelName:
    """The name nearest to a text: lower case, `-` for what no name has. Raises UsageError when nothing is left."""
    text = re.sub(r"[^a-z0-9._-]+", "-", given.lower()).strip("-._")
    if not text:
        raise UsageError(f"{given!r} gives no model name.", hint="Give one with --name.")
    return ModelName.parse(re.sub(r"\.{2,}", ".", text)[:128].strip("-._"))
