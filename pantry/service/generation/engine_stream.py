"""From an engine's stream to events. No I/O here: bytes in, events out.

Format: the OpenAI API reference, "Chat completion chunk object" and "Completion object", with llama.cpp's
`reasoning_content`, `prompt_progress` and `timings`.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator
from typing import Any, cast

from pantry.core.errors import EngineError
from pantry.service.generation import sse
from pantry.service.generation.events import (
    Event,
    Finish,
    FinishReason,
    ReasoningDelta,
    Start,
    TextDelta,
    Token,
    ToolCallBegin,
    ToolCallDelta,
    Usage,
)
from pantry.service.generation.request import GenerationRequest

Chunk = dict[str, Any]
_NEEDS_READING = (b'"usage":', b'"prompt_progress":', b'"error":', b'"tool_calls":', b"[DONE]")
"""What only a reader of the whole stream understands: a call's later pieces say nothing without its beginning."""
MAX_FIGURE = 2**53
"""The largest count that is believed: what JSON readers hold exactly."""
_HEAD = frozenset({"id", "object", "created", "model", "choices", "usage", "timings"})


class EngineReader:
    """Reads the stream of one generation. `usage` is complete once it is `done`."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self.started = False
        self.done = False
        self.usage = Usage()
        self._prompt_tokens = self._cached_tokens = 0
        self._calls: dict[tuple[int, int], _Call] = {}

    def is_plain(self, block: bytes) -> bool:
        """Whether a block holds nothing but deltas, so that a surface of the same form may pass it on unread."""
        return self.started and not any(mark in block for mark in _NEEDS_READING)

    def feed(self, block: bytes) -> Iterator[Event]:
        """The events of a block of whole server-sent events.

        Raises EngineError when the engine reports an error; ValueError, KeyError, TypeError, AttributeError and
        RecursionError for what is not of the form.
        """
        for event in sse.events(block):
            if event == sse.DONE:
                self.done = True
                yield self.usage
                return
            chunk = sse.parse(event)
            if isinstance(chunk, dict):
                yield from self._chunk(chunk)

    def _chunk(self, chunk: Chunk) -> Iterator[Event]:
        if (error := chunk.get("error")) is not None:
            raise EngineError(f"The engine failed: {_message(error)}")
        if "prompt_progress" in chunk:
            return
        if not self.started:
            self.started = True
            extra = tuple((key, value) for key, value in chunk.items() if key not in _HEAD)
            yield Start(_text(chunk, "id"), _text(chunk, "model"), _number(chunk, "created"), extra)
        if isinstance(usage := chunk.get("usage"), dict) and usage:
            self._count(usage, chunk.get("timings"))
        for part in chunk.get("choices") or ():
            yield from self._part(part)

    def _count(self, usage: Chunk, timings: Any) -> None:
        """Note the usage that came.

        With several answers an engine sends it for each, prompt included: it is added up. For one answer some providers
        send it with every chunk, as it stands by then: the last one counts.
        """
        several = self._request.answers > 1
        before = self.usage if several else Usage()
        self._prompt_tokens = several * self._prompt_tokens + _number(usage, "prompt_tokens")
        details = usage.get("prompt_tokens_details")
        cached = _number(details, "cached_tokens") if isinstance(details, dict) else 0
        self._cached_tokens = several * self._cached_tokens + cached
        self.usage = Usage(
            self._prompt_tokens // self._request.n,
            before.completion_tokens + _number(usage, "completion_tokens"),
            self._cached_tokens // self._request.n,
            timings if isinstance(timings, dict) else None,
        )

    def _part(self, part: Chunk) -> Iterator[Event]:
        choice = _place(part, 0 if self._request.answers == 1 else None)
        delta = part.get("delta") or {}
        tokens = self._tokens(part)
        if reasoning := _text(delta, "reasoning_content"):
            yield ReasoningDelta(choice, reasoning, tokens)
            tokens = ()
        if (text := _text(delta, "content") if self._request.chat else _text(part, "text")) or tokens:
            yield TextDelta(choice, text, tokens)
        for call in delta.get("tool_calls") or ():
            yield from self._call(choice, call)
        if reason := _text(part, "finish_reason"):
            yield Finish(choice, cast(FinishReason, reason))  # a provider's own word is passed on

    def _tokens(self, part: Chunk) -> tuple[Token, ...]:
        """Tokens with their log-probabilities, and no more of the likeliest beside them than were asked for."""
        most = self._request.logprobs
        if most is None:
            return ()
        found = (part.get("logprobs") or {}).get("content") or ()
        return tuple(_checked(token) | {"top_logprobs": _likeliest(token)[:most]} for token in found)

    def _call(self, choice: int, call: Chunk) -> Iterator[Event]:
        index, function = _place(call, 0), call.get("function") or {}
        known = self._calls.setdefault((choice, index), _Call())
        known.id = known.id or _text(call, "id")
        arguments = _text(function, "arguments")
        if not known.begun and (name := _text(function, "name")):
            known.begun = True
            yield ToolCallBegin(choice, index, known.id, name)
            arguments = known.early + arguments
        if not known.begun:  # arguments before the name: no provider does that on purpose
            known.early += arguments
        elif arguments:
            yield ToolCallDelta(choice, index, arguments)


class _Call:
    """What is known of a tool call that is being written."""

    def __init__(self) -> None:
        self.id, self.begun, self.early = "", False, ""


def _place(part: Chunk, otherwise: int | None) -> int:
    """Which answer or call a part belongs to. Raises ValueError when it does not say so, and `otherwise` is None."""
    index = part.get("index")
    index = otherwise if index is None else index
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise ValueError(f"index is a number from 0 on; got {reprlib.repr(index)}")
    return index


def _text(part: Chunk, name: str) -> str:
    """A text of a chunk; empty when it is left out. Raises ValueError."""
    value = part.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name} is a text; got {reprlib.repr(value)}")
    return value or ""


def _number(part: Chunk, name: str) -> int:
    """A figure beside the answer; 0 for one that makes no sense, which is no reason to lose the answer."""
    value = part.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_FIGURE else 0


def _checked(token: Any) -> Token:
    """A token that says its text and its log-probability. Raises ValueError."""
    if not (isinstance(token, dict) and isinstance(token.get("token"), str) and "logprob" in token):
        raise ValueError(f"a token has a text and a logprob; got {reprlib.repr(token)}")
    return token


def _likeliest(token: Token) -> list[Token]:
    return [_checked(each) for each in token.get("top_logprobs") or ()]


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else json.dumps(error)
