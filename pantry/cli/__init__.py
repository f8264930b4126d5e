"""The command line: one thin file per group of commands, found by name; each offers `register(app)`.

Only typer is imported to show help, and of the files only that of the command that is named (`_overview.py`); what a
command needs is imported inside it.
"""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with the code of the error tree (docs/exit-codes.md)."""
    if sys.argv[1:] in (["--version"], ["-V"]):
        from pantry import __version__

        try:
            print(f"pantry {__version__}", flush=True)
            sys.exit(0)
        except OSError:  # nobody reads it, or the disk is full: told below, as for every command
            pass
    if sys.argv[1:] in ([], ["--help"], ["-h"]):
        gc.disable()  # the process prints one page and ends: a tenth of its time would go into collecting garbage
    try:
        from pantry.cli._app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while the modules were still being read
        code = 130
    sys.exit(code)
