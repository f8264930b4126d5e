"""Takes the pictures in the README: runs `make run` and `make test` in a terminal and draws what it shows.

`python -m docs.picture run` and `python -m docs.picture test`.
"""

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
MAX_LINES = 40


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


def draw(target: str, output: str) -> None:
    """Write docs/images/<target>.svg with the command and what it printed."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=WIDTH, file=nowhere, force_terminal=True)
        console.print(Text(f"$ make {target}", style="bold"))
        console.print(Text.from_ansi(output))
        svg = console.export_svg(title=f"make {target}")
    svg = re.sub(r"@font-face \{.*?\}", "", svg, flags=re.DOTALL)  # no fonts from elsewhere
    file = ROOT / "docs" / "images" / f"make-{target}.svg"
    file.parent.mkdir(exist_ok=True)
    file.write_text(svg)


def main() -> None:
    """Run and draw the targets that are named."""
    os.environ["COLUMNS"] = str(WIDTH)
    for target in sys.argv[1:] or ["run", "test"]:
        output = terminal_output(["make", "-C", str(ROOT), "--no-print-directory", target])
        lines = output.strip().splitlines()
        draw(target, "\n".join(lines if len(lines) <= MAX_LINES else [*lines[:8], "…", *lines[-8:]]))


if __name__ == "__main__":
    main()
