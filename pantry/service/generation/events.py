"""The one form of a generation: what an engine writes, as events that every API surface translates into its own words.

Order: `Start`; then for each answer (`choice`, counted from 0) its deltas and one `Finish`, those of several answers
perhaps interleaved; `Usage`. A generation that breaks off ends with `Failure` in place of what is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pantry.core.errors import PantryError

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
"""Why an answer ended: by itself or at a stop text; at a limit of tokens; with tool calls; by a provider's filter."""
Token = dict[str, Any]
"""A token with its log-probability: `token`, `logprob`, `bytes`, and `top_logprobs`, the likeliest in its place."""


@dataclass(frozen=True, slots=True)
class Start:
    """The engine begins to answer. `created` is in seconds since 1970; `extra` are further facts of its answer."""

    id: str
    model: str
    created: int
    extra: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thinks before it answers."""

    choice: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer. `tokens` are there when log-probabilities were asked for."""

    choice: int
    text: str
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallBegin:
    """The model calls a tool; `index` counts the calls of one answer. The arguments follow in pieces."""

    choice: int
    index: int
    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the arguments of a call, which together are a JSON object."""

    choice: int
    index: int
    arguments: str


@dataclass(frozen=True, slots=True)
class Finish:
    """One answer is complete."""

    choice: int
    reason: FinishReason


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens over all answers, the prompt counted once; `timings` as the engine measured them (llama.cpp's names)."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    timings: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """The generation broke off after its start."""

    error: PantryError


Event = Start | ReasoningDelta | TextDelta | ToolCallBegin | ToolCallDelta | Finish | Usage | Failure
