"""An engine that repeats what it was told: for tests of everything around an engine, and for trying a client.

Its model file is a JSON object; see `pantry/engines/processes/echo.py` for the keys.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pantry.core.settings import Settings
from pantry.engines.adapter import LoadOptions, ModelFile


class Echo:
    """Answers with the words of the last message."""

    formats = frozenset({"echo"})

    def why_not_here(self, settings: Settings) -> str | None:
        return None

    def command(self, model: ModelFile, options: LoadOptions, socket: Path, settings: Settings) -> list[str]:
        arguments = [str(model.path), str(model.name), str(socket), str(options.context)]
        return [sys.executable, "-P", "-m", "pantry.engines.processes.echo", *arguments]


adapter = Echo()
