"""OpenAI's two text endpoints: from events to chunks, and to one whole object. No I/O here.

Formats: the OpenAI API reference, "Chat completion chunk object" and "Completion object", with `reasoning_content` and
`timings` as llama.cpp's server has them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from pantry.service.generation import sse
from pantry.service.generation.collected import Collected, CollectedAnswer
from pantry.service.generation.events import (
    Event,
    Failure,
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
from pantry.service.http import error_object

Chunk = dict[str, Any]


class _Chunks(ABC):
    """What both endpoints share: the head of every chunk, the usage at the end, errors."""

    content_type = "text/event-stream"
    chunk_object: str
    whole_object: str

    def __init__(self, request: GenerationRequest, *, stream: bool, include_usage: bool) -> None:
        self._request, self._streams, self._include_usage = request, stream, include_usage
        self._collected = Collected()
        self._head: Chunk = {}
        rewritten = request.logprobs is not None or request.must_call or request.schema is not None
        self.splices = stream and request.answers == 1 and not rewritten

    def feed(self, event: Event) -> bytes:
        """The chunks for an event of a stream; what a whole answer needs is kept where no stream was asked for."""
        match event:
            case Failure():
                return sse.encode({"error": error_object(event.error)})
            case Start():
                head = {"id": event.id, "created": event.created, "model": event.model, **dict(event.extra)}
                self._head = head | {"object": self.chunk_object}
            case Usage() if self._streams:
                return self._chunk([], **self._figures(event)) if self._include_usage else b""
        if not self._streams:
            self._collected.feed(event)
            return b""
        return b"".join(self._chunk([part]) for part in self._parts(event))

    def end(self) -> bytes:
        return sse.DONE

    def whole(self) -> Chunk:
        choices = [self._whole(index, answer) for index, answer in self._collected.in_order()]
        head = self._head | {"object": self.whole_object}
        return {**head, "choices": choices, **self._figures(self._collected.usage)}

    @abstractmethod
    def _parts(self, event: Event) -> list[Chunk]:
        """What stands in `choices` for an event, one chunk each."""

    @abstractmethod
    def _whole(self, index: int, answer: CollectedAnswer) -> Chunk:
        """One of the `choices` of a whole answer."""

    def _chunk(self, choices: list[Chunk], **more: Any) -> bytes:
        return sse.encode({"choices": choices, **self._head, **more})

    def _figures(self, usage: Usage) -> Chunk:
        """Token counts, and the engine's own timings (llama.cpp's extension) where there was one answer."""
        figures: Chunk = {
            "usage": {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
            }
        }
        if usage.timings and self._request.answers == 1:
            figures["timings"] = usage.timings
        return figures


class ChatChunks(_Chunks):
    """/v1/chat/completions."""

    chunk_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def _parts(self, event: Event) -> list[Chunk]:
        match event:
            case Start():
                return [_delta(choice, {"role": "assistant", "content": ""}) for choice in range(self._request.answers)]
            case TextDelta():
                return [_delta(event.choice, {"content": event.text}, event.tokens)]
            case ReasoningDelta():
                return [_delta(event.choice, {"reasoning_content": event.text}, event.tokens)]
            case ToolCallBegin():
                begun = {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}
                return [_delta(event.choice, {"tool_calls": [{"index": event.index, **begun}]})]
            case ToolCallDelta():
                call = {"index": event.index, "function": {"arguments": event.arguments}}
                return [_delta(event.choice, {"tool_calls": [call]})]
            case Finish():
                return [_delta(event.choice, {}) | {"finish_reason": event.reason}]
        return []

    def _whole(self, index: int, answer: CollectedAnswer) -> Chunk:
        message: Chunk = {"role": "assistant", "content": answer.text}
        if answer.reasoning:
            message["reasoning_content"] = answer.reasoning
        if answer.calls:
            message["content"] = answer.text or None
            message["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
                for _, call in sorted(answer.calls.items())
            ]
        logprobs = {"content": answer.tokens} if self._request.logprobs is not None else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": answer.finish}


class CompletionChunks(_Chunks):
    """/v1/completions. `echo` is the prompt to put before the text."""

    chunk_object = whole_object = "text_completion"

    def __init__(self, request: GenerationRequest, *, stream: bool, include_usage: bool, echo: str = "") -> None:
        super().__init__(request, stream=stream, include_usage=include_usage)
        self._echo = echo
        self._lengths: dict[int, int] = {}
        self.splices = self.splices and not echo

    def _parts(self, event: Event) -> list[Chunk]:
        match event:
            case Start() if self._echo:
                return [self._part(choice, self._echo) for choice in range(self._request.answers)]
            case TextDelta():
                at = self._lengths.get(event.choice, 0)
                self._lengths[event.choice] = at + len(event.text)
                logprobs = legacy_logprobs(event.tokens, at) if event.tokens else None
                return [self._part(event.choice, event.text, logprobs)]
            case Finish():
                return [self._part(event.choice, "") | {"finish_reason": event.reason}]
        return []

    def _part(self, choice: int, text: str, logprobs: Chunk | None = None) -> Chunk:
        return {"index": choice, "text": text, "logprobs": logprobs, "finish_reason": None}

    def _whole(self, index: int, answer: CollectedAnswer) -> Chunk:
        logprobs = legacy_logprobs(answer.tokens, 0) if self._request.logprobs is not None else None
        return {
            "index": index,
            "text": self._echo + answer.text,
            "logprobs": logprobs,
            "finish_reason": answer.finish,
        }


def legacy_logprobs(tokens: list[Token] | tuple[Token, ...], start: int) -> Chunk:
    """Log-probabilities in the form of /v1/completions, from those of chat. `start` is the text offset of the first."""
    offsets, position = [], start
    for token in tokens:
        offsets.append(position)
        position += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [{top["token"]: top["logprob"] for top in token.get("top_logprobs", [])} for token in tokens],
        "text_offset": offsets,
    }


def _delta(choice: int, delta: Chunk, tokens: tuple[Token, ...] = ()) -> Chunk:
    part: Chunk = {"index": choice, "delta": delta, "finish_reason": None}
    return part | {"logprobs": {"content": list(tokens)}} if tokens else part
