"""Asking a model through the service, in words: prompts in, text out as it is written."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from pantry.client.connection import ServiceConnection

Message = dict[str, str]


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens; None leaves it to the model. `schema` is a JSON Schema the answer must meet."""

    max_tokens: int | None = None
    temperature: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    schema: dict[str, Any] | None = None

    def body(self) -> dict[str, Any]:
        """The fields of a request."""
        given: dict[str, Any] = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "stop": list(self.stop) or None,
        }
        if self.schema is not None:
            form = {"name": "answer", "schema": self.schema, "strict": True}
            given["response_format"] = {"type": "json_schema", "json_schema": form}
        return {name: value for name, value in given.items() if value is not None}


@dataclass
class Figures:
    """What an answer took. Times in seconds; complete once the answer is."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    first_token: float = 0.0
    seconds: float = 0.0
    finish_reason: str | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens after the first, by the time they took."""
        took = self.seconds - self.first_token
        return (self.completion_tokens - 1) / took if took > 0 and self.completion_tokens > 1 else 0.0


def holds_conversation(connection: ServiceConnection, model: str) -> bool:
    """Whether the model has a chat template. Raises ModelNotFoundError."""
    from urllib.parse import quote

    return bool(connection.get(f"/v1/models/{quote(model, safe='')}").get("pantry", {}).get("chat", True))


def generate(
    connection: ServiceConnection,
    model: str,
    messages: list[Message],
    sampling: Sampling,
    figures: Figures,
    *,
    chat: bool = True,
) -> Generator[str, None, None]:
    """The answer to a conversation, in pieces as they are written; closing the iterator stops the generation.

    A model without a chat template (`chat` false) continues the contents of the messages instead. `figures` is filled
    on the way.
    """
    body: dict[str, Any] = {"model": model, "stream_options": {"include_usage": True}, **sampling.body()}
    if chat:
        path, body["messages"] = "/v1/chat/completions", messages
    else:
        path, body["prompt"] = "/v1/completions", "\n".join(message["content"] for message in messages)
    for event in connection.stream(path, body):
        if usage := event.get("usage"):
            figures.prompt_tokens = usage["prompt_tokens"]
            figures.completion_tokens = usage["completion_tokens"]
        for choice in event.get("choices", []):
            figures.finish_reason = choice.get("finish_reason") or figures.finish_reason
            text = (choice.get("delta") or {}).get("content") if chat else choice.get("text")
            if text:
                figures.first_token = figures.first_token or time.perf_counter() - figures.started
                yield text
    figures.seconds = time.perf_counter() - figures.started
