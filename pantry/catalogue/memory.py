"""How much memory a model of the catalogue will take, guessed from its size; files say it better (formats/memory)."""

from __future__ import annotations

from pantry.catalogue.schema import ModelEntry, Shape

BITS_PER_WEIGHT = 4.85
"""Q4_K_M, the usual 4-bit file, averages this many bits a weight (llama.cpp, tools/quantize)."""
OVERHEAD = 250_000_000  # bytes: program, tokeniser, compute buffers
USUAL_CONTEXT = 8192  # tokens
KV_ELEMENT = 2  # bytes, F16
KV_SHARE = 0.12
"""Where the shape is unknown, the cache of the usual context is taken as this share of the weights."""


def download_size(model: ModelEntry) -> int | None:
    """Bytes of a 4-bit file, as a registry gives it or by the number of weights; None when neither is known."""
    if model.download_bytes is not None:
        return model.download_bytes
    return None if model.parameters is None else int(model.parameters * BITS_PER_WEIGHT / 8)


def active_weights(model: ModelEntry) -> int | None:
    """Weights read for each token: all of them, or those of the experts at work."""
    return model.active_parameters or model.parameters


def memory_size(model: ModelEntry) -> int | None:
    """Bytes of memory to run a 4-bit file at the usual context; None when the size is unknown."""
    weights = download_size(model)
    return model.ram_bytes if weights is None else running_size(weights, model.context, model.shape)


def running_size(weights: int, context: int | None, shape: Shape | None) -> int:
    """Bytes of memory to run a file of `weights` bytes at the usual context, or the model's own if that is shorter."""
    tokens = min(context or USUAL_CONTEXT, USUAL_CONTEXT)
    if shape is None:
        cache = int(weights * KV_SHARE * tokens / USUAL_CONTEXT)
    else:
        cache = 2 * shape.layers * shape.kv_heads * shape.head_dim * KV_ELEMENT * tokens
    return weights + cache + OVERHEAD
