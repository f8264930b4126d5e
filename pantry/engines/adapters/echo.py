"""An engine that repeats what it was told: for tests of everything around an engine, and for trying a client.

Its model file is a JSON object; see `pantry/engines/processes/echo.py` for the keys.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pantry.core.settings import Settings
from pantry.engines.adapter import LoadOptions, ModelFiles, Serves, WorkerNeed
from pantry.engines.memory import need_by_size


class Echo:
    """Answers with the words of the last message."""

    formats = frozenset({"echo"})
    serves: frozenset[Serves] = frozenset({"chat", "completion"})

    def why_not_here(self, settings: Settings) -> str | None:
        return None

    def need(self, model: ModelFiles, options: LoadOptions) -> WorkerNeed:
        return need_by_size(model, options)

    def command(self, model: ModelFiles, options: LoadOptions, socket: Path, settings: Settings) -> list[str]:
        arguments = [str(model.weights), str(model.name), str(socket), str(options.context)]
        return [sys.executable, "-P", "-m", "pantry.engines.processes.echo", *arguments]


adapter = Echo()
