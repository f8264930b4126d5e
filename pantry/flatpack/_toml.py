"""Writes TOML (reading is in the standard library). Only what manifests and trust files hold: no dates with time."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dump_toml(table: Mapping[str, Any]) -> str:
    """The table as TOML text: plain values first, then tables, then arrays of tables. None values are left out."""
    lines: list[str] = []
    _write(table, (), lines)
    return "\n".join(lines).strip("\n") + "\n"


def _write(table: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    for name, value in table.items():
        if value is not None and not _is_table(value) and not _is_tables(value):
            lines.append(f"{_key(name)} = {_value(value)}")
    for name, value in table.items():
        inner = (*path, name)
        header = ".".join(map(_key, inner))
        if _is_table(value):
            lines += ["", f"[{header}]"]
            _write(value, inner, lines)
        elif _is_tables(value):
            for item in value:
                lines += ["", f"[[{header}]]"]
                _write(item, inner, lines)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    raise TypeError(f"TOML cannot hold {type(value).__name__}")
