"""Models at a provider: any server that speaks the OpenAI dialect. A small process passes calls on."""

from __future__ import annotations

import sys
from pathlib import Path

from pantry.core.settings import Settings
from pantry.engines.adapter import LoadOptions, ModelFiles, Serves, WorkerNeed
from pantry.engines.memory import need_by_size
from pantry.engines.provider import FORMAT


class Remote:
    """Passes calls on to the provider that a description names (pantry/engines/provider.py)."""

    formats = frozenset({FORMAT})
    serves: frozenset[Serves] = frozenset({"chat", "completion"})

    def why_not_here(self, settings: Settings) -> str | None:
        return "The setting offline is on." if settings.offline else None

    def need(self, model: ModelFiles, options: LoadOptions) -> WorkerNeed:
        return need_by_size(model, options)

    def command(self, model: ModelFiles, options: LoadOptions, socket: Path, settings: Settings) -> list[str]:
        arguments = [str(model.weights), str(model.name), str(socket)]
        return [sys.executable, "-P", "-m", "pantry.engines.processes.remote", *arguments]


adapter = Remote()
