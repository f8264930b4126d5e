"""A recorded generation that the echo engine plays: every kind of event an engine can send, in the order wished for.

A script is a list of steps, each an object with one of these keys: `reasoning` or `text` (said word by word), `call`
(`{"id", "name", "arguments"}`: a tool call, its arguments in pieces of `size` characters, 8 without), `wait` (seconds),
`error` (the engine reports it and ends), `die` (the process kills itself), `finish` (the reason to end with; "stop", or
"tool_calls" after a call, when the script has none).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Delta = dict[str, Any]


def deltas_of(step: Mapping[str, Any], calls: int) -> Iterator[Delta]:
    """The deltas of one step, in the form of chat chunks; `calls` tool calls came before it."""
    if "reasoning" in step:
        yield from ({"reasoning_content": word} for word in words_of(step["reasoning"]))
    elif "text" in step:
        yield from ({"content": word} for word in words_of(step["text"]))
    elif "call" in step:
        yield from _call(step["call"], calls, step.get("size", 8))


def words_of(text: str) -> list[str]:
    """The words of a text, each with the space before it: one word is one token."""
    parts = text.split(" ")
    return [parts[0], *(f" {part}" for part in parts[1:])]


def last_reason(script: Sequence[Mapping[str, Any]]) -> str:
    """Why a script that was played to its end has ended."""
    for step in script:
        if "finish" in step:
            return str(step["finish"])
    return "tool_calls" if any("call" in step for step in script) else "stop"


def _call(call: Mapping[str, Any], index: int, size: int) -> Iterator[Delta]:
    arguments = str(call.get("arguments", "{}"))
    begun = {"name": call["name"], "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": call.get("id", ""), "type": "function", "function": begun}]}
    for start in range(0, len(arguments), size):
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[start : start + size]}}]}
