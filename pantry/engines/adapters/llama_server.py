"""An external llama-server program, from the setting `llama_server` or the PATH.

Builds with run-time dispatch use processor features (AVX-512, AMX) or a GPU that the wheel cannot.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from pantry.core.settings import Settings
from pantry.engines.adapter import LoadOptions, ModelFiles, Serves, WorkerNeed
from pantry.engines.memory import need_by_header

BATCH = 256
"""Prompt tokens evaluated between two looks at whether the client is still there."""


class LlamaServer:
    """Runs GGUF models with a llama-server that the user installed."""

    formats = frozenset({"gguf"})
    serves: frozenset[Serves] = frozenset({"chat", "completion", "vision"})

    def why_not_here(self, settings: Settings) -> str | None:
        if settings.llama_server and not os.access(settings.llama_server, os.X_OK):
            return f"The setting llama_server names {settings.llama_server}, which is not a program."
        if find_program(settings) is None:
            return "No llama-server on the PATH; name one in the setting llama_server to use it."
        return None

    def need(self, model: ModelFiles, options: LoadOptions) -> WorkerNeed:
        return need_by_header(model, options)

    def command(self, model: ModelFiles, options: LoadOptions, socket: Path, settings: Settings) -> list[str]:
        program = str(find_program(settings))
        arguments = {
            "--model": model.weights,
            "--alias": model.name,
            "--host": socket,  # a path that ends in .sock makes it listen on a Unix socket
            "--ctx-size": options.context * options.parallel,
            "--parallel": options.parallel,
            "--threads": options.threads,
            "--batch-size": BATCH,
            "--ubatch-size": BATCH,
            "--cache-ram": options.prompt_cache >> 20,
            "--verbosity": 2,  # warnings and errors; the levels below tell every request
        }
        words = [str(word) for pair in arguments.items() for word in pair]
        words += [word for file in model.of_role("projector")[:1] for word in ("--mmproj", str(file))]
        words += [word for file in model.of_role("adapter") for word in ("--lora", str(file))]
        return [
            sys.executable,
            "-P",
            "-m",
            "pantry.engines.processes.guard",
            program,
            *words,
            "--jinja",
            "--check-tensors",
        ]


def find_program(settings: Settings) -> Path | None:
    """The llama-server to use: the one in the settings, else the first on the PATH."""
    if settings.llama_server:
        return settings.llama_server
    found = shutil.which("llama-server")
    return Path(found) if found else None


adapter = LlamaServer()
