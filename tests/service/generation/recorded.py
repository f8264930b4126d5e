"""Recorded generations: what engines send, as scripts of the echo engine, chunks and events. For tests of surfaces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pantry.core.errors import EngineError
from pantry.engines.processes.script import deltas_of, last_reason
from pantry.service.generation import sse
from pantry.service.generation.engine_stream import EngineReader
from pantry.service.generation.events import Event, Failure
from pantry.service.generation.request import Continuation, Conversation, GenerationRequest, Sampling

Script = list[dict[str, Any]]
WEATHER = {"id": "call_1", "name": "weather", "arguments": '{"city": "Rome", "days": 3}'}
TIME = {"id": "call_2", "name": "time", "arguments": "{}"}

SCRIPTS: dict[str, Script] = {
    "text": [{"text": "The fox is quick."}],
    "awkward text": [{"text": 'say "usage": and [DONE] \n\n «é»'}],
    "reasoning": [{"reasoning": "Let me think."}, {"text": "Four."}],
    "cut off": [{"text": "one two"}, {"finish": "length"}],
    "one call": [{"call": WEATHER}],
    "two calls": [{"reasoning": "I need both."}, {"call": WEATHER, "size": 5}, {"call": TIME}],
    "text and call": [{"text": "I look."}, {"call": WEATHER}],
    "empty": [],
}
"""Generations that end by themselves, by what is special about them."""
BROKEN: Script = [{"text": "The fox"}, {"error": {"message": "out of memory", "type": "server_error", "code": 500}}]
"""One that breaks off in the middle."""
HEAD = {"id": "gen-1", "created": 5, "model": "m"}


def conversation(**more: Any) -> GenerationRequest:
    """A request for an answer to one message."""
    return GenerationRequest(Conversation([{"role": "user", "content": "Hi"}]), Sampling(), **more)


def continuation(**more: Any) -> GenerationRequest:
    """A request to continue a text."""
    return GenerationRequest(Continuation("Hi"), Sampling(), **more)


def chunks_of(script: Script, *, chat: bool = True) -> Iterator[bytes]:
    """What an engine sends for a script, an event each, with usage and end."""
    kind = "chat.completion.chunk" if chat else "text_completion"
    head = {**HEAD, "object": kind}

    def chunk(part: dict[str, Any], reason: str | None = None) -> bytes:
        said = {"delta": part} if chat else {"text": part.get("content", "")}
        return sse.encode({**head, "choices": [{"index": 0, **said, "finish_reason": reason}]})

    yield sse.encode({**head, "choices": [], "prompt_progress": {"total": 4}})
    yield chunk({"role": "assistant", "content": None} if chat else {})
    count = calls = 0
    for step in script:
        if "error" in step:
            yield sse.encode({"error": step["error"]})
            return
        for delta in deltas_of(step, calls):
            count += 1
            yield chunk(delta)
        calls += "call" in step
    yield chunk({}, last_reason(script))
    usage = {"prompt_tokens": 4, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": 1}}
    yield sse.encode({**head, "choices": [], "usage": usage, "timings": {"predicted_ms": 1.5}})
    yield b": keep-alive\n\n" + sse.DONE


def events_of(script: Script, request: GenerationRequest | None = None) -> list[Event]:
    """A script as events; one that breaks off ends with its `Failure`."""
    request = request or conversation()
    reader, found = EngineReader(request), list[Event]()
    try:
        for chunk in chunks_of(script, chat=request.chat):
            found.extend(reader.feed(chunk))
    except EngineError as error:
        found.append(Failure(error))
    return found
