"""How much memory a model file needs, from its header alone: weights, the attention cache, compute buffers.

The rules follow llama.cpp: the cache holds keys and values of every layer for the whole context (of its window, for
sliding-window layers; a fixed state, for recurrent ones); the compute buffer is sized for one batch; layers can be
moved to a graphics card one by one, the output layer last. Figures are memory in use, not address space reserved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pantry.core.errors import UsageError, did_you_mean
from pantry.formats.gguf import GGUFHeader

BATCH = 256
"""Prompt tokens evaluated at once by Pantry's workers."""
PROCESS = 50_000_000
"""Bytes of a worker beside its model: interpreter, engine code, HTTP threads (48 MB were measured)."""
TOKEN = 200
"""Bytes that the vocabulary takes per token once it is read (measured with 8,000 to 64,000 tokens)."""
DEVICE_OVERHEAD = 300_000_000
"""Bytes a graphics card needs for its context and kernels before any model."""
CACHE_TYPES: dict[str, float] = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32, "q4_1": 20 / 32,
    "q4_0": 18 / 32,
}  # fmt: skip
"""Bytes per element of each type the cache can have."""
CACHE_PADDING = 256  # tokens; the cache is rounded up to a multiple


@dataclass(frozen=True)
class Layer:
    """One block: bytes of its weights, elements it caches per token, tokens it keeps, and bytes of a fixed state."""

    weights: int
    cache_width: int
    window: int | None = None
    state: int = 0


@dataclass(frozen=True)
class Architecture:
    """What decides about memory. `embedding` and `output` are bytes of the layers outside the blocks."""

    layers: tuple[Layer, ...]
    embedding: int
    output: int
    vocabulary: int
    width: int
    feed_forward: int
    context: int | None

    @property
    def weights(self) -> int:
        """Bytes of all tensors."""
        return self.embedding + self.output + sum(layer.weights for layer in self.layers)


@dataclass(frozen=True)
class Need:
    """Bytes by purpose, on the processor's side and on the graphics card."""

    weights: int
    cache: int
    compute: int
    vocabulary: int = 0
    device_weights: int = 0
    device_cache: int = 0
    device_compute: int = 0
    offloaded_layers: int = 0

    @property
    def ram(self) -> int:
        """Bytes of main memory, the worker process included."""
        return self.weights + self.cache + self.compute + self.vocabulary + PROCESS

    def with_more_weights(self, size: int) -> Need:
        """The same with `size` bytes of weights beside it, which stay in main memory."""
        return replace(self, weights=self.weights + size)

    @property
    def vram(self) -> int:
        """Bytes of graphics memory; 0 when nothing is offloaded."""
        used = self.device_weights + self.device_cache + self.device_compute
        return used + DEVICE_OVERHEAD if used else 0


def architecture_of(header: GGUFHeader) -> Architecture:
    """Read from a GGUF header what decides about memory. Missing figures count as nothing, so check `layers`."""
    count = min(header.number("block_count") or 0, len(header.tensors))  # a header may claim any number
    blocks = [0] * count
    embedding = output = 0
    for tensor in header.tensors:
        head, _, rest = tensor.name.partition(".")
        number = rest.partition(".")[0]
        if head == "blk" and number.isdigit() and int(number) < count:
            blocks[int(number)] += tensor.size
        elif tensor.name.startswith(("token_embd", "per_layer_token_embd")):
            embedding += tensor.size
        else:
            output += tensor.size
    widths, windows, states = _cache_widths(header, count), _windows(header, count), _states(header, count)
    rows = next((tensor.shape[-1] for tensor in header.tensors if tensor.name.startswith("token_embd")), 0)
    return Architecture(
        layers=tuple(Layer(*each) for each in zip(blocks, widths, windows, states, strict=True)),
        embedding=embedding,
        output=output,
        vocabulary=rows,
        width=header.number("embedding_length") or 0,
        feed_forward=header.number("feed_forward_length") or 0,
        context=header.context_length,
    )


def estimate(
    model: Architecture, context: int, *, cache_type: str = "f16", parallel: int = 1, device_layers: int = 0
) -> Need:
    """Bytes needed for `parallel` answers of `context` tokens each, with `device_layers` layers on a graphics card.

    `device_layers` counts blocks from the last; one more than there are blocks moves the output layer too. Raises
    UsageError for an unknown cache type.
    """
    if cache_type not in CACHE_TYPES:
        hint = did_you_mean(cache_type, CACHE_TYPES, f"Known: {', '.join(CACHE_TYPES)}.")
        raise UsageError(f"There is no cache type {cache_type!r}.", hint=hint)
    count = len(model.layers)
    moved = max(0, min(device_layers, count))
    output_moved = device_layers > count
    caches = [layer_cache(layer, context, CACHE_TYPES[cache_type], parallel) for layer in model.layers]
    weights = [layer.weights for layer in model.layers]
    stay = count - moved
    device_output = (model.output or model.embedding) if output_moved else 0
    return Need(
        weights=sum(weights[:stay]) + model.embedding + (0 if output_moved else model.output),
        cache=sum(caches[:stay]),
        compute=activation_bytes(model) if stay or not output_moved else 0,
        vocabulary=model.vocabulary * TOKEN,
        device_weights=sum(weights[stay:]) + device_output,
        device_cache=sum(caches[stay:]),
        device_compute=activation_bytes(model) + (logit_bytes(model) if output_moved else 0) if moved else 0,
        offloaded_layers=moved + output_moved,
    )


def layer_cache(layer: Layer, context: int, element: float, parallel: int) -> int:
    """Bytes that one layer caches: its width for every token kept, and its fixed state, for each answer."""
    tokens = context * parallel
    if layer.window is not None:
        tokens = min(tokens, layer.window * parallel + BATCH)
    padded = math.ceil(tokens / CACHE_PADDING) * CACHE_PADDING
    return int(layer.cache_width * padded * element) + layer.state * parallel


def activation_bytes(model: Architecture) -> int:
    """Bytes of the widest activations of one batch in flight, 4 bytes an element."""
    return 4 * BATCH * (4 * model.width + 2 * model.feed_forward)


def logit_bytes(model: Architecture) -> int:
    """Bytes of the logits of a whole batch. Main memory reserves them untouched; a graphics card really holds them."""
    return 4 * BATCH * model.vocabulary


def layers_that_fit(model: Architecture, context: int, vram: int, *, cache_type: str = "f16", parallel: int = 1) -> int:
    """The most layers (output layer included) whose weights, cache and buffers fit `vram` bytes."""
    for layers in range(len(model.layers) + 1, 0, -1):
        if estimate(model, context, cache_type=cache_type, parallel=parallel, device_layers=layers).vram <= vram:
            return layers
    return 0


def longest_context(model: Architecture, ram: int, *, cache_type: str = "f16", parallel: int = 1) -> int:
    """The longest context, in steps of 256 tokens up to the model's own, that fits `ram` bytes; 0 when none does."""
    low, high = 0, max(1, (model.context or 8192) // CACHE_PADDING)
    while low < high:
        middle = (low + high + 1) // 2
        fits = estimate(model, middle * CACHE_PADDING, cache_type=cache_type, parallel=parallel).ram <= ram
        low, high = (middle, high) if fits else (low, middle - 1)
    return low * CACHE_PADDING


def _cache_widths(header: GGUFHeader, count: int) -> list[int]:
    """Elements of keys and values per token, layer by layer."""
    heads = _first(header, "attention.head_count") or 0
    width = header.number("embedding_length") or 0
    usual = width // heads if heads else 0
    key = header.number("attention.key_length") or usual
    value = header.number("attention.value_length") or usual
    rank = header.number("attention.kv_lora_rank")
    if rank:  # latent attention (DeepSeek): one compressed vector and the rotary part per token
        return [rank + (header.number("rope.dimension_count") or 0)] * count
    per_layer = header.metadata.get(f"{header.architecture}.attention.head_count_kv")
    if isinstance(per_layer, list):
        counts = [each if isinstance(each, int) else 0 for each in per_layer[:count]]
        return [each * (key + value) for each in counts] + [0] * (count - len(counts))
    kv_heads = per_layer if isinstance(per_layer, int) and per_layer else heads
    return [kv_heads * (key + value)] * count


def _windows(header: GGUFHeader, count: int) -> list[int | None]:
    """The window of each layer, None where it sees the whole context."""
    window = header.number("attention.sliding_window")
    if not window:
        return [None] * count
    pattern = header.metadata.get(f"{header.architecture}.attention.sliding_window_pattern")
    if isinstance(pattern, list):
        flags = [bool(each) for each in pattern[:count]] + [False] * max(0, count - len(pattern))
        return [window if flag else None for flag in flags]
    period = pattern if isinstance(pattern, int) and pattern > 0 else _PERIODS.get(header.architecture)
    if period is None:
        return [None] * count  # which layers slide is not known: count them whole
    return [None if (number + 1) % period == 0 else window for number in range(count)]


_PERIODS = {"gemma2": 2, "gemma3": 6, "gpt-oss": 2, "cohere2": 4, "gemma3n": 5, "olmo3": 4}
"""Architectures whose pattern of sliding layers llama.cpp fixes in code: every n-th layer sees everything."""


def _states(header: GGUFHeader, count: int) -> list[int]:
    """Bytes of the fixed state of each recurrent layer (state-space models), 4 bytes an element."""
    inner, state = header.number("ssm.inner_size"), header.number("ssm.state_size")
    if not inner or not state:
        return [0] * count
    kernel = header.number("ssm.conv_kernel") or 1
    groups = header.number("ssm.group_count") or 0
    size = 4 * (inner * state + (kernel - 1) * (inner + 2 * groups * state))
    hybrid = isinstance(header.metadata.get(f"{header.architecture}.attention.head_count_kv"), list)
    return [0 if hybrid and width else size for width in _cache_widths(header, count)]


def _first(header: GGUFHeader, key: str) -> int | None:
    value = header.metadata.get(f"{header.architecture}.{key}")
    if isinstance(value, list):
        return next((each for each in value if isinstance(each, int) and each), None)
    return header.number(key)
