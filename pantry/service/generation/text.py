"""An answer as plain text, piece by piece: for surfaces whose callers want words and no more."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pantry.core.errors import UsageError
from pantry.core.permissions import Caller
from pantry.service.generation.answer import generate
from pantry.service.generation.events import Finish, TextDelta, Usage
from pantry.service.generation.request import (
    MAX_MESSAGES,
    Continuation,
    Conversation,
    GenerationRequest,
    Sampling,
    parse_sampling,
)
from pantry.service.state import Gateway
from pantry.store.models import InstalledModel


@dataclass
class Completion:
    """An answer as it grows. `usage` is complete at its end."""

    parts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)

    @property
    def text(self) -> str:
        return "".join(self.parts)


async def write(
    gateway: Gateway,
    caller: Caller,
    model: InstalledModel,
    messages: Sequence[Mapping[str, Any]],
    parameters: Mapping[str, Any],
    completion: Completion,
    *,
    raw: bool = False,
) -> AsyncGenerator[str, None]:
    """The answer to a conversation, in pieces; closing the generator stops the engine.

    A model without a chat template, and any model when `raw` is set, continues the contents of the messages.
    Raises UsageError for a bad parameter or message, and whatever stops a generation.
    """
    request = request_for(model, messages, parse_sampling(parameters), raw=raw)
    async with contextlib.aclosing(generate(gateway, caller, model, request)) as events:
        async for event in events:
            match event:
                case TextDelta() if event.text:
                    completion.parts.append(event.text)
                    yield event.text
                case Finish():
                    completion.finish_reason = event.reason
                case Usage():
                    completion.usage = event


def request_for(
    model: InstalledModel,
    messages: Sequence[Mapping[str, Any]],
    sampling: Sampling,
    *,
    raw: bool = False,
    n: int = 1,
) -> GenerationRequest:
    """What to ask the engine, by whether the model holds conversations. Raises UsageError for a bad message."""
    given: Conversation | Continuation
    if not raw and model.facts.get("chat", True):
        given = Conversation(checked_messages(messages))
    else:
        given = Continuation("\n".join(str(message.get("content", "")) for message in messages))
    return GenerationRequest(given, sampling, n=n, schema=sampling.schema_wanted())


def checked_messages(messages: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """The messages of a conversation, each with a role and text. Raises UsageError that says which is not so."""
    if not 1 <= len(messages) <= MAX_MESSAGES:
        raise UsageError(f"messages: expected 1 to {MAX_MESSAGES} messages, got {len(messages)}.")
    for number, message in enumerate(messages):
        if not isinstance(message.get("role"), str):
            raise UsageError(f"messages: message {number} has no role.")
        content = message.get("content")
        if not isinstance(content, str | list | None):
            raise UsageError(f"messages: the content of message {number} is neither text nor a list of parts.")
        for part in content if isinstance(content, list) else ():
            if not (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)):
                raise UsageError(f"messages: message {number} has a part that is not text; only text is read here.")
    return messages
