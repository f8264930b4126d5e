"""From an engine's stream to events. No I/O here: bytes in, events out.

Format: the OpenAI API reference, "Chat completion chunk object" and "Completion object", with llama.cpp's
`reasoning_content`, `prompt_progress` and `timings`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pantry.core.errors import EngineError
from pantry.service.generation import sse
from pantry.service.generation.events import (
    Event,
    Finish,
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
_NEEDS_READING = (b'"usage":', b'"prompt_progress":', b'"error":', b"[DONE]")
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
        """The events of a block of whole server-sent events. Raises EngineError when the engine reports an error."""
        for event in sse.events(block):
            if event == sse.DONE:
                self.done = True
                yield self.usage
                return
            chunk = sse.parse(event)
            if isinstance(chunk, dict):
                yield from self._chunk(chunk)

    def _chunk(self, chunk: Chunk) -> Iterator[Event]:
        if "error" in chunk:
            raise EngineError(f"The engine failed: {_message(chunk['error'])}")
        if "prompt_progress" in chunk:
            return
        if not self.started:
            self.started = True
            extra = tuple((key, value) for key, value in chunk.items() if key not in _HEAD)
            yield Start(str(chunk.get("id", "")), str(chunk.get("model", "")), int(chunk.get("created", 0)), extra)
        if usage := chunk.get("usage"):
            self._count(usage, chunk.get("timings"))
        for part in chunk.get("choices") or ():
            yield from self._part(part)

    def _count(self, usage: Chunk, timings: Chunk | None) -> None:
        """Add up the usage that came; with several answers an engine sends it for each, prompt included."""
        self._prompt_tokens += usage.get("prompt_tokens", 0)
        self._cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        self.usage = Usage(
            self._prompt_tokens // self._request.n,
            self.usage.completion_tokens + usage.get("completion_tokens", 0),
            self._cached_tokens // self._request.n,
            timings,
        )

    def _part(self, part: Chunk) -> Iterator[Event]:
        choice = part["index"]
        delta = part.get("delta") or {}
        tokens = self._tokens(part)
        if reasoning := delta.get("reasoning_content"):
            yield ReasoningDelta(choice, reasoning, tokens)
            tokens = ()
        if (text := (delta.get("content") if self._request.chat else part.get("text")) or "") or tokens:
            yield TextDelta(choice, text, tokens)
        for call in delta.get("tool_calls") or ():
            yield from self._call(choice, call)
        if reason := part.get("finish_reason"):
            yield Finish(choice, reason)

    def _tokens(self, part: Chunk) -> tuple[Token, ...]:
        """Tokens with their log-probabilities, and no more of the likeliest beside them than were asked for."""
        most = self._request.logprobs
        if most is None:
            return ()
        found = (part.get("logprobs") or {}).get("content") or ()
        return tuple(token | {"top_logprobs": token.get("top_logprobs", [])[:most]} for token in found)

    def _call(self, choice: int, call: Chunk) -> Iterator[Event]:
        index, function = call.get("index", 0), call.get("function") or {}
        known = self._calls.setdefault((choice, index), _Call())
        known.id = known.id or call.get("id") or ""
        arguments = function.get("arguments") or ""
        if not known.begun and (name := function.get("name")):
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


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else json.dumps(error)
