"""Takes the picture in the README: runs `make run` in a terminal and draws what it shows: `python -m docs.picture`."""

from __future__ import annotations

import os
import pty
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parent.parent
WIDTH = 100


def terminal_output(command: list[str]) -> str:
    """What `command` writes to a terminal of its own."""
    seen = bytearray()

    def keep(descriptor: int) -> bytes:
        data = os.read(descriptor, 4096)
        seen.extend(data)
        return data

    status = pty.spawn(command, keep)
    if status:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}")
    return seen.decode("utf-8", "replace").replace("\r\n", "\n")


def main() -> None:
    """Write docs/images/first-run.svg."""
    os.environ["COLUMNS"] = str(WIDTH)
    output = terminal_output(["make", "-C", str(ROOT), "--no-print-directory", "run"])
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text("$ make run", style="bold"))
        console.print(Text.from_ansi(output))
        svg = console.export_svg(title="Pantry: the first answer")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # no fonts from elsewhere
    target = ROOT / "docs" / "images" / "first-run.svg"
    target.parent.mkdir(exist_ok=True)
    target.write_text(svg)


if __name__ == "__main__":
    main()
