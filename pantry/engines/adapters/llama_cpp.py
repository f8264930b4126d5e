"""llama.cpp inside a Python wheel (xllamacpp): the engine that is always there."""

from __future__ import annotations

import importlib.util
import json
import platform
import sys
from functools import cache
from pathlib import Path

from pantry.core.settings import Settings
from pantry.engines.adapter import LoadOptions, ModelFiles, Serves, WorkerNeed
from pantry.engines.memory import need_by_header

REQUIRED_X86_FEATURES = frozenset({"avx", "avx2", "f16c", "fma", "bmi2"})
"""The wheel is built for these and looks for nothing at run time: without them it would die with SIGILL."""


class LlamaCpp:
    """Runs GGUF models with the llama.cpp of the xllamacpp wheel."""

    formats = frozenset({"gguf"})
    serves: frozenset[Serves] = frozenset({"chat", "completion", "vision"})

    def why_not_here(self, settings: Settings) -> str | None:
        if importlib.util.find_spec("xllamacpp") is None:
            return "The package xllamacpp is not installed. Install it with: pip install xllamacpp"
        return missing_features(platform.machine(), cpu_features())

    def need(self, model: ModelFiles, options: LoadOptions) -> WorkerNeed:
        return need_by_header(model, options)

    def command(self, model: ModelFiles, options: LoadOptions, socket: Path, settings: Settings) -> list[str]:
        given = {
            "path": str(model.weights),
            "projectors": [str(file) for file in model.of_role("projector")],
            "adapters": [str(file) for file in model.of_role("adapter")],
            "name": str(model.name),
            "socket": str(socket),
            "context": options.context,
            "parallel": options.parallel,
            "threads": options.threads,
            "prompt_cache": options.prompt_cache,
        }
        return [sys.executable, "-P", "-m", "pantry.engines.processes.llama_cpp", json.dumps(given)]


def missing_features(machine: str, features: frozenset[str]) -> str | None:
    """Why the wheel cannot run on a processor with these features; None when it can, or nothing is known."""
    if machine not in ("x86_64", "AMD64") or not features:
        return None
    missing = sorted(REQUIRED_X86_FEATURES - features)
    if not missing:
        return None
    return (
        f"This processor lacks {', '.join(missing)}, which the built-in llama.cpp needs. "
        "Install a llama-server built for it and name it in the setting llama_server."
    )


@cache
def cpu_features() -> frozenset[str]:
    """The processor's feature flags as Linux lists them; empty where they cannot be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


adapter = LlamaCpp()
