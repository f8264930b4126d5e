"""What a training will take, before it runs: parameters, tokens, memory, time on this machine, and what to expect."""

from __future__ import annotations

import bz2
import math
from dataclasses import dataclass, replace

import psutil

from pantry.core.errors import MemoryBudgetError
from pantry.core.units import format_bytes
from pantry.workshop.recipe import PRESETS, TOKENS_PER_PARAMETER, TrainingRecipe, make_recipe
from pantry.workshop.shape import Shape
from pantry.workshop.training.loop import Trainer
from pantry.workshop.training.prepare import Prepared

SAMPLE_TOKENS = 1 << 20
"""Tokens of the text that are compressed to guess at the loss."""
MEASURED_STEPS = 3
LOADED_LATER = 100_000_000
"""Bytes of torch that come into memory with the first step on a processor (measured)."""


@dataclass(frozen=True)
class Plan:
    """Counts, bytes, seconds. `memory` is the most the process will hold on the device; `seconds` None: not measured.

    `expected` is in bits per byte of held-out text: what bzip2 -9 needs for a text like this one, which is about where
    small models end that saw `TOKENS_PER_PARAMETER` tokens a parameter.
    """

    parameters: int
    tokens: int | None
    steps: int | None
    epochs: float | None
    data_tokens: int
    memory: int
    free_memory: int
    seconds: float | None
    tokens_per_second: float | None
    expected: float
    tokens_per_parameter: float | None


def training_bytes(shape: Shape, recipe: TrainingRecipe) -> int:
    """Bytes of weights, gradients, optimiser and activations in float32; what Python and torch need is not in it.

    What a layer keeps per token was fitted to measured peaks of the presets nano and micro, batches of 256 to 8,192
    tokens, on a processor; mini and small were within 10 % at 1,024 and 4,096 tokens. The gradients come as the
    activations go, unless those of an earlier part of the batch are there already.
    """
    total, matrices = shape.parameters, shape.matrices
    states = 8 * total if recipe.optimiser == "adamw" else 8 * (total - matrices) + 4 * matrices
    tokens = recipe.step_tokens // recipe.accumulate
    kv_width = shape.kv_heads * shape.head_width
    kept = 9 * shape.width + 12 * kv_width + 4 * shape.hidden
    if shape.kv_heads != shape.heads:
        kept += 2 * shape.width
    activations = 4 * tokens * (shape.layers * kept + 2 * shape.width + 4 * shape.vocab)
    if recipe.accumulate > 1:
        return 8 * total + states + activations
    return 4 * total + states + max(4 * total, activations)


def make_plan(recipe: TrainingRecipe, data: Prepared, device: str, *, measure: bool = True) -> Plan:
    """The plan; with `measure` a few steps are run and timed. Raises MemoryBudgetError when it cannot fit."""
    shape = recipe.shape(data.vocab)
    plan = Plan(
        shape.parameters, None, None, None, len(data.train), _memory(shape, recipe, device), free_memory(device), None,
        None, expected_bits(data), None,
    )  # fmt: skip
    check_fits(plan, recipe, data.vocab, device)
    seconds = _seconds_per_step(Trainer(recipe, data, device)) if measure else None
    tokens = recipe.token_budget(shape.parameters)
    if recipe.minutes is not None and seconds is not None:
        in_time = math.ceil(recipe.minutes * 60 / seconds) * recipe.step_tokens
        tokens = min(tokens or in_time, in_time)
    if tokens is None:
        return plan
    steps = math.ceil(tokens / recipe.step_tokens)
    return replace(
        plan,
        tokens=steps * recipe.step_tokens,
        steps=steps,
        epochs=steps * recipe.step_tokens / len(data.train),
        seconds=None if seconds is None else steps * seconds,
        tokens_per_second=None if seconds is None else recipe.step_tokens / seconds,
        tokens_per_parameter=tokens / shape.parameters,
    )


def check_fits(plan: Plan, recipe: TrainingRecipe, vocab: int, device: str) -> None:
    """Raises MemoryBudgetError that says how much is missing and what would fit."""
    if plan.memory <= plan.free_memory:
        return
    raise MemoryBudgetError(
        f"The training needs about {format_bytes(plan.memory)}; {format_bytes(plan.free_memory)} are free: "
        f"{format_bytes(plan.memory - plan.free_memory)} are missing.",
        hint=_what_fits(plan.free_memory, recipe, vocab, device),
    )


def _what_fits(free: int, recipe: TrainingRecipe, vocab: int, device: str) -> str:
    parts = recipe.accumulate
    while parts < recipe.batch:
        parts = next(number for number in range(parts + 1, recipe.batch + 1) if recipe.batch % number == 0)
        smaller = recipe.model_copy(update={"accumulate": parts})
        if _memory(smaller.shape(vocab), smaller, device) <= free:
            return f"It fits with accumulate = {parts}."
    for name in reversed(PRESETS):
        preset = make_recipe({"preset": name})
        if _memory(preset.shape(), preset, device) <= free:
            return f"The preset {name!r} would fit."
    return "Close other programs; not even the smallest preset fits."


def _memory(shape: Shape, recipe: TrainingRecipe, device: str) -> int:
    own = psutil.Process().memory_info().rss + LOADED_LATER if device == "cpu" else 0
    return own + training_bytes(shape, recipe)


def free_memory(device: str) -> int:
    """Bytes this process can hold in all: what it has and what is free."""
    if device == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    return psutil.virtual_memory().available + psutil.Process().memory_info().rss


def _seconds_per_step(trainer: Trainer) -> float:
    before = 0.0
    times = []
    for _ in range(MEASURED_STEPS):
        trainer.step()
        times.append(trainer.progress.seconds - before)
        before = trainer.progress.seconds
    return min(times[1:])


def expected_bits(data: Prepared) -> float:
    """Bits per byte that bzip2 -9 needs for the beginning of the text."""
    text = data.tokenizer.decode(data.train.ids[:SAMPLE_TOKENS].tolist()).encode()
    return 8 * len(bz2.compress(text, 9)) / max(1, len(text))


def is_short(plan: Plan) -> bool:
    """Whether the model sees less than half of the tokens that a model of its size is worth."""
    return plan.tokens_per_parameter is not None and plan.tokens_per_parameter < TOKENS_PER_PARAMETER / 2
