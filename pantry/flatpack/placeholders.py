"""Fields that a template left in brackets for the user to fill, like `name = "[publisher/name]"`."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOML_KEY = re.compile(r"""^\s*([\w."-]+)\s*=""")
_TOML_PLACEHOLDER = re.compile(r"""["'](\[[^\[\]"']+\])["']""")


@dataclass(frozen=True)
class Placeholder:
    """One unfilled field: its name, the bracketed text, and the line, counted from 1."""

    field: str
    text: str
    line: int


def find_placeholders(toml: str) -> list[Placeholder]:
    """Every bracketed string of a TOML text, with the table and key it belongs to. Comments are passed over."""
    found: list[Placeholder] = []
    table = field = ""
    for number, line in enumerate(toml.splitlines(), 1):
        text = line.strip()
        if header := re.fullmatch(r"\[{1,2}([^\[\]\"']+)\]{1,2}(?:\s*#.*)?", text):
            table = header[1].strip() + "."
        elif not text.startswith("#"):
            if match := _TOML_KEY.match(line):
                field = table + match[1]
            found += [Placeholder(field, item[1], number) for item in _TOML_PLACEHOLDER.finditer(line)]
    return found
