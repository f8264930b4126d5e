"""What `pantry --help` lists, kept in a file so that showing it imports no command.

The file commands.tsv follows from the commands: `make docs` writes it and a test compares.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).with_name("commands.tsv")


class Listed(NamedTuple):
    """One line of the overview: a command or a group of commands, and the file of this folder that offers it."""

    name: str
    module: str
    panel: str
    help: str


def read_overview() -> list[Listed]:
    """The commands in the order in which they are shown."""
    return [Listed(*line.split("\t")) for line in FILE.read_text(encoding="utf-8").splitlines()]
