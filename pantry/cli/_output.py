"""How commands print: JSON for programs, plain tables for people, status on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from pantry.core.units import printable


def print_json(content: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> None:
    """A table without lines, as `ps` prints; `empty` when there are no rows."""
    filled = [[printable(cell) for cell in row] for row in rows]
    if not filled:
        typer.echo(empty)
        return
    widths = [max(len(cell) for cell in column) for column in zip(columns, *filled, strict=True)]
    for row in [list(columns), *filled]:
        typer.echo("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_facts(facts: dict[str, Any]) -> None:
    """Names and values, one a line; None values are left out."""
    shown = {name: value for name, value in facts.items() if value is not None}
    width = max(len(name) for name in shown)
    for name, value in shown.items():
        typer.echo(f"{name.ljust(width)}   {printable(str(value))}")


def note(text: str) -> None:
    """A remark for the person at the terminal, on standard error so that pipes stay clean."""
    typer.echo("\n".join(printable(line) for line in text.split("\n")), err=True)


def write_answer(piece: str) -> None:
    """A piece of a model's answer on standard output; on a terminal without control characters but line breaks."""
    if sys.stdout.isatty():
        piece = "".join(char if char in "\n\t" else printable(char) for char in piece)
    sys.stdout.write(piece)
    sys.stdout.flush()
