"""How much memory a loaded model needs, estimated before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pantry.engines.adapter import LoadOptions

PROCESS = 90_000_000
"""Bytes a worker needs without any model: the interpreter, the engine's code, HTTP threads (measured: 62 to 85 MB)."""
BATCH = 256
"""Prompt tokens in one evaluation; the largest buffers hold this many rows."""


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes by purpose. `cache` grows with context and parallel answers, `prompts` is the prompt cache's limit."""

    weights: int
    cache: int
    compute: int
    prompts: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.compute + self.prompts + PROCESS


def estimate(size: int, facts: dict[str, Any], options: LoadOptions) -> MemoryNeed:
    """What a model file of `size` bytes needs with these options.

    `facts` are those of the store: `kv_bytes_per_token`, `vocabulary`, `width` (embedding length). Compute buffers
    hold a batch of logits and a few activations, all 4-byte floats.
    """
    tokens = options.context * options.parallel
    row = facts.get("vocabulary", 0) + 12 * facts.get("width", 0)
    return MemoryNeed(
        weights=size,
        cache=facts.get("kv_bytes_per_token", 0) * tokens,
        compute=4 * BATCH * row,
        prompts=min(options.prompt_cache, facts.get("kv_bytes_per_token", 0) * tokens),
    )
