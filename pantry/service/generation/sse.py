"""Server-sent events: from a byte stream to blocks of whole events, and from objects to events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import StreamReader

DATA = b"data: "
END = b"\n\n"
DONE = b"data: [DONE]\n\n"
MAX_EVENT = 16_000_000  # bytes; an engine that sends more without an end of event is broken


async def blocks(stream: StreamReader) -> AsyncIterator[bytes]:
    """Bytes as they come, cut at event ends: each block is one or more whole events.

    Raises ValueError when an event grows beyond the limit. A rest without an end mark is dropped.
    """
    rest = b""
    async for chunk in stream.iter_any():
        if not rest and chunk.endswith(END):
            yield chunk
            continue
        rest += chunk
        head, mark, rest = rest.rpartition(END)
        if mark:
            yield head + mark
        if len(rest) > MAX_EVENT:
            raise ValueError(f"an event of more than {MAX_EVENT} bytes")


def events(block: bytes) -> list[bytes]:
    """The events of a block, each with its end mark."""
    return [event + END for event in block.split(END) if event]


def parse(event: bytes) -> Any:
    """The JSON object of an event, or None for [DONE], comments and keep-alive lines.

    Everything in it can be sent on: NaN and infinities, which are not JSON, become None, and half a surrogate pair the
    replacement character. Raises ValueError, RecursionError.
    """
    if not event.startswith(DATA) or event == DONE:
        return None
    found = json.loads(event[len(DATA) :], parse_constant=lambda _: None)
    return found if b"\\ud" not in event.lower() else json.loads(_whole_characters(found))


def _whole_characters(content: Any) -> str:
    text = json.dumps(content, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def encode(content: Any) -> bytes:
    """One event that carries `content` as JSON."""
    return DATA + json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode() + END
