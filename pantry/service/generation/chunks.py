"""Rules for the chunks of OpenAI's two text endpoints: forward them, rewrite them, or put a whole answer together.

No I/O here: bytes and objects in, bytes and objects out. Formats: the OpenAI API reference, "Chat completion chunk
object" and "Completion object".
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from pantry.core.errors import EngineError
from pantry.service.generation import sse as _sse
from pantry.service.generation.output_schema import OutputSchema

Chunk = dict[str, Any]
_LOOK_INTO = (b'"usage":', b'"prompt_progress":', b'"error":', b"[DONE]")


@dataclass(frozen=True)
class ResponseOptions:
    """What a client asked for, as far as it changes the answer's form."""

    chat: bool
    stream: bool
    n: int = 1
    prompts: int = 1
    include_usage: bool = False
    logprobs: bool = False
    top_logprobs: int = 0
    """How many of the likeliest tokens to tell beside each chosen one."""
    must_call: bool = False
    """Whether an answer without a tool call is an error."""
    schema: OutputSchema | None = None
    echo: str | None = None
    """The prompt to put before the text (completions only)."""


@dataclass
class Choice:
    """One answer as it grows."""

    index: int
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: dict[int, Chunk] = field(default_factory=dict)
    logprobs: list[Chunk] = field(default_factory=list)
    finish_reason: str | None = None
    length: int = 0


class Answer:
    """Reads an engine's chunks, keeps what is needed, and gives out what the client wants."""

    def __init__(self, wanted: ResponseOptions) -> None:
        self.wanted = wanted
        self.done = False
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.cached_tokens = 0
        self._head: Chunk = {}
        self.timings: Chunk | None = None
        """The engine's own, of the last answer (llama.cpp's extension)."""
        self._choices: dict[int, Choice] = {}
        asked_for_none = wanted.logprobs and not wanted.top_logprobs  # the engine gives one all the same
        rewritten = wanted.must_call or asked_for_none or (wanted.logprobs and not wanted.chat)
        rewritten = rewritten or wanted.schema is not None or wanted.echo is not None
        self._as_is = wanted.stream and wanted.n * wanted.prompts == 1 and not rewritten

    def feed(self, block: bytes) -> bytes:
        """Take in a block of whole events; the bytes to send to a streaming client.

        Plain streams are forwarded unread, save the few events that carry usage, progress, an error or the end. Raises
        EngineError when the engine reports one or its answer breaks the schema.
        """
        if self._as_is and not any(mark in block for mark in _LOOK_INTO):
            return block
        return b"".join(self._event(event) for event in _sse.events(block))

    def _event(self, event: bytes) -> bytes:
        if event == _sse.DONE:
            self.done = True
            self._check_answers()
            return self._closing_usage() + event
        chunk = _sse.parse(event)
        if not isinstance(chunk, dict):
            return event
        if "error" in chunk:
            raise EngineError(f"The engine failed: {_message(chunk['error'])}")
        kept = self._take(chunk)
        if kept is None or not self.wanted.stream:
            return b""
        return event if kept is chunk else _sse.encode(kept)

    def _take(self, chunk: Chunk) -> Chunk | None:
        """Note what a chunk says; the chunk to send on, itself when unchanged, None for nothing."""
        if "prompt_progress" in chunk:
            return None
        self._head = self._head or {key: chunk[key] for key in ("id", "created", "model") if key in chunk}
        changed = self._take_usage(chunk)
        if not chunk.get("choices"):
            return None if changed else chunk
        for number, part in enumerate(chunk["choices"]):
            choice = self._choices.setdefault(part["index"], Choice(part["index"]))
            new = self._take_part(choice, part)
            if new is not part:
                changed = changed or dict(chunk)
                changed["choices"] = [*changed["choices"][:number], new, *changed["choices"][number + 1 :]]
        return changed or chunk

    def _take_usage(self, chunk: Chunk) -> Chunk | None:
        """Count the usage of a chunk; the chunk without it, since it is sent once, at the end, or not at all."""
        usage = chunk.get("usage")
        if not usage:
            return None
        self.prompt_tokens += usage.get("prompt_tokens", 0)
        self.completion_tokens += usage.get("completion_tokens", 0)
        self.cached_tokens += (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        self.timings = chunk.get("timings")
        return {key: value for key, value in chunk.items() if key not in ("usage", "timings")}

    def _take_part(self, choice: Choice, part: Chunk) -> Chunk:
        choice.finish_reason = part.get("finish_reason") or choice.finish_reason
        if self.wanted.chat:
            self._take_delta(choice, part.get("delta") or {})
            tokens = self._trimmed((part.get("logprobs") or {}).get("content") or [])
            choice.logprobs += tokens
            return part | {"logprobs": {"content": tokens}} if tokens and not self.wanted.top_logprobs else part
        text = part.get("text") or ""
        if self.wanted.echo is not None and not choice.text:
            text = self.wanted.echo + text
            part = part | {"text": text}
        choice.text.append(text)
        if self.wanted.logprobs:
            tokens = self._trimmed((part.get("logprobs") or {}).get("content") or [])
            part = part | {"logprobs": legacy_logprobs(tokens, choice.length) if tokens else None}
            choice.logprobs += tokens
        choice.length += len(text)
        return part

    def _trimmed(self, tokens: list[Chunk]) -> list[Chunk]:
        """Tokens with no more of the likeliest beside them than were asked for."""
        most = self.wanted.top_logprobs
        return [token | {"top_logprobs": token.get("top_logprobs", [])[:most]} for token in tokens]

    def _take_delta(self, choice: Choice, delta: Chunk) -> None:
        choice.text.append(delta.get("content") or "")
        choice.reasoning.append(delta.get("reasoning_content") or "")
        for call in delta.get("tool_calls") or []:
            known = choice.tool_calls.setdefault(call.get("index", 0), {"function": {"name": "", "arguments": ""}})
            function = call.get("function") or {}
            known |= {key: call[key] for key in ("id", "type") if call.get(key)}
            known["function"]["name"] += function.get("name") or ""
            known["function"]["arguments"] += function.get("arguments") or ""

    def _check_answers(self) -> None:
        """Hold every answer that ended by itself to what was asked for. Raises EngineError."""
        for choice in self._choices.values():
            if choice.finish_reason != "stop":
                continue
            if self.wanted.must_call and not choice.tool_calls:
                raise EngineError("The model did not call a tool, and tool_choice asked for it.", hint="Ask again.")
            if self.wanted.schema:
                self.wanted.schema.check("".join(choice.text))

    def _closing_usage(self) -> bytes:
        """The usage event that ends a stream whose client asked for it; engines place it differently."""
        if not (self.wanted.stream and self.wanted.include_usage):
            return b""
        return _sse.encode({**self._head, "object": self._kind, "choices": [], **self._figures()})

    def _figures(self) -> Chunk:
        """Usage, and the engine's own timings (llama.cpp's extension) where one prompt had one answer."""
        single = self.timings and self.wanted.n * self.wanted.prompts == 1
        return {"usage": self.usage(), "timings": self.timings} if single else {"usage": self.usage()}

    def usage(self) -> Chunk:
        """Token counts over all choices, in OpenAI's form; the prompt counts once."""
        prompt = self.prompt_tokens // max(1, self.wanted.n)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": self.completion_tokens,
            "total_tokens": prompt + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens // max(1, self.wanted.n)},
        }

    def whole(self) -> Chunk:
        """The answer in one object, for a client that did not ask for a stream."""
        make = self._whole_chat if self.wanted.chat else self._whole_text
        choices = [make(self._choices[index]) for index in sorted(self._choices)]
        return {**self._head, "object": self._kind.removesuffix(".chunk"), "choices": choices, **self._figures()}

    @property
    def _kind(self) -> str:
        return "chat.completion.chunk" if self.wanted.chat else "text_completion"

    def _whole_chat(self, choice: Choice) -> Chunk:
        message: Chunk = {"role": "assistant", "content": "".join(choice.text)}
        if any(choice.reasoning):
            message["reasoning_content"] = "".join(choice.reasoning)
        if choice.tool_calls:
            message["tool_calls"] = [choice.tool_calls[number] for number in sorted(choice.tool_calls)]
            message["content"] = message["content"] or None
        logprobs = {"content": choice.logprobs} if self.wanted.logprobs else None
        return {
            "index": choice.index,
            "message": message,
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
        }

    def _whole_text(self, choice: Choice) -> Chunk:
        start = len(self.wanted.echo or "")
        logprobs = legacy_logprobs(choice.logprobs, start) if self.wanted.logprobs else None
        return {
            "index": choice.index,
            "text": "".join(choice.text),
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
        }


def legacy_logprobs(tokens: list[Chunk], start: int) -> Chunk:
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


def _message(error: Any) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else json.dumps(error)
