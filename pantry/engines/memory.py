"""How much memory a worker will need for a model file, estimated before it is started."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pantry.engines.adapter import LoadOptions
from pantry.formats.gguf import read_header
from pantry.formats.memory import Need, architecture_of, estimate


@dataclass(frozen=True)
class WorkerNeed:
    """Bytes a worker needs: the model's, and past prompts kept for reuse (no more than one full cache)."""

    model: Need
    prompts: int

    @property
    def total(self) -> int:
        return self.model.ram + self.prompts


def worker_need(path: Path, format: str, options: LoadOptions) -> WorkerNeed:
    """Estimate from the file's header. Raises BadFileError when it cannot be read."""
    if format != "gguf":
        return WorkerNeed(Need(weights=path.stat().st_size, cache=0, compute=0), 0)
    need = estimate(architecture_of(read_header(path)), options.context, parallel=options.parallel)
    return WorkerNeed(need, min(options.prompt_cache, need.cache))
