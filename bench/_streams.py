"""A load generator that costs little: raw HTTP over a socket, counting events as bytes."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """Where to send requests: a Unix socket path, or a TCP port of this machine with an optional key."""

    path: str | None = None
    port: int = 0
    key: str | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self.path:
            return await asyncio.open_unix_connection(self.path)
        return await asyncio.open_connection("127.0.0.1", self.port)


def request_bytes(target: Target, path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body).encode()
    key = f"Authorization: Bearer {target.key}\r\n" if target.key else ""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{key}"
        f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + content


async def stream(target: Target, path: str, body: dict[str, Any]) -> tuple[float, float, int]:
    """One streamed answer: seconds to the first token, seconds in all, tokens (events with text)."""
    reader, writer = await target.open()
    start = time.perf_counter()
    writer.write(request_bytes(target, path, {**body, "stream": True}))
    first, tokens = 0.0, 0
    while line := await reader.readline():
        if (line.startswith(b"data: {") and b'"text":"' in line) or b'"content":"' in line:
            first = first or time.perf_counter() - start
            tokens += 1
        elif line.startswith(b"data: [DONE]"):
            break
    took = time.perf_counter() - start
    writer.close()
    if not tokens:
        raise RuntimeError("no token came")
    return first, took, tokens


async def whole(target: Target, path: str, body: dict[str, Any]) -> float:
    """One whole answer; seconds."""
    reader, writer = await target.open()
    start = time.perf_counter()
    writer.write(request_bytes(target, path, body))
    content = await reader.read()
    took = time.perf_counter() - start
    writer.close()
    if b" 200 " not in content[:20]:
        raise RuntimeError(content[:500].decode("utf-8", "replace"))
    return took


async def tokens_per_second(target: Target, path: str, body: dict[str, Any], streams: int) -> float:
    """Tokens of `streams` answers written at the same time, by the time until the last ended."""
    start = time.perf_counter()
    answers = await asyncio.gather(*(stream(target, path, {**body, "seed": n}) for n in range(streams)))
    return sum(tokens for _, _, tokens in answers) / (time.perf_counter() - start)
