"""The native API: `python -m bench.native`. Handshakes, idle connections, the permission check, sessions.

Method: one real service. Latency: one connection, one call at a time. Rate: 16 connections of one other process, one
call at a time each. Idle memory: resident bytes of the service before and after 1,000 apps connected and said hello.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import psutil
import uvloop

from bench._report import machine, median, print_table, verdict
from pantry.access.apps import add_app, caller_of_key, ruling_on
from pantry.client import Client
from pantry.core.permissions import Action, Caller, Grant, Permission, decide
from pantry.core.refs import ModelName
from pantry.store.database import Database
from tests.service.running import AS_INSTALLED, Service, starting

HANDSHAKE = b'{"function":"handshake","parameters":{"check":1}}\n'
CLIENTS = 16
IDLE = 1000
STORY = "The fox walked through the wood and met a hen, an owl and a hare. " * 12


async def shake(path: str, calls: int) -> list[float]:
    """Seconds of each of `calls` handshakes on one connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    took = []
    for _ in range(calls):
        start = time.perf_counter()
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\n")
        took.append(time.perf_counter() - start)
    writer.close()
    return took


async def rate(path: str, calls: int) -> float:
    """Handshakes a second of all clients together."""
    start = time.perf_counter()
    await asyncio.gather(*(shake(path, calls // CLIENTS) for _ in range(CLIENTS)))
    return calls / (time.perf_counter() - start)


async def idle(service: Service, path: str) -> int:
    """Bytes that idle connections cost the service."""
    process = psutil.Process(service.pid)
    before = process.memory_info().rss
    writers = []
    for _ in range(IDLE):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(HANDSHAKE)
        await reader.readuntil(b"\n")
        writers.append(writer)
    grown = process.memory_info().rss - before
    for writer in writers:
        writer.close()
    return int(grown)


def checks(service: Service) -> tuple[float, float]:
    """Seconds of the bare rule, and of all a call needs: from a key's text to the ruling, with its limits."""
    grant = Grant(("qwen*", "llama*", "star*"))
    _, key = add_app(service.paths, "Bench", None, [Permission.SESSION, Permission.LOAD], grant)
    model, rounds = ModelName("starter"), 5000
    with Database(service.paths.database) as database:
        caller: Caller = caller_of_key(database, key)
        start = time.perf_counter()
        for _ in range(rounds):
            decide(caller, Action.GENERATE, model, now=0.0, used_today=1)
        rule = (time.perf_counter() - start) / rounds
        start = time.perf_counter()
        for _ in range(rounds):
            ruling_on(database, caller_of_key(database, key), Action.GENERATE, model)
        return rule, (time.perf_counter() - start) / rounds


def turns(service: Service) -> list[list[str]]:
    """What a session's second turn saves: the tokens the engine knew, and the time to the first piece."""
    client = Client(paths=service.paths)
    rows = []
    session = client.session(model="starter", max_tokens=8, temperature=0)
    for number, text in enumerate((STORY, "And then?", "And then?"), start=1):
        start = time.perf_counter()
        reply = session.say(text)
        took = (time.perf_counter() - start) * 1000
        rows.append([f"turn {number}", str(reply.prompt_tokens), str(reply.cached_tokens), f"{took:.0f} ms"])
    return rows


async def measure(service: Service) -> list[list[str]]:
    path = str(service.paths.call_socket)
    await shake(path, 500)
    p50 = median(await shake(path, 3000)) * 1000
    best = max([await rate(path, 16_000) for _ in range(3)])
    grown = await idle(service, path) / 1e6
    rule, whole = checks(service)
    return [
        ["handshake, p50", f"{p50:.3f} ms", "≤ 0.3 ms", verdict(p50, 0.3, at_most=True)],
        [f"handshakes, {CLIENTS} clients", f"{best:.0f}/s", "≥ 5,000/s", verdict(best, 5000, at_most=False)],
        [f"{IDLE} idle connections", f"{grown:.1f} MB", "≤ 40 MB", verdict(grown, 40, at_most=True)],
        ["permission rule", f"{rule * 1e6:.1f} µs", "≤ 50 µs", verdict(rule * 1e6, 50, at_most=True)],
        ["key, grants and rule", f"{whole * 1e6:.1f} µs", "", ""],
    ]


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        starting(Service(Path(folder) / "home", program=AS_INSTALLED)) as service,
    ):
        rows = uvloop.run(measure(service))
        service.ask("POST", "/admin/load", {"model": "starter", "pin": True})
        told = turns(service)
    print_table("Native API", ["", "measured", "target", ""], rows, machine())
    print_table("Turns of a session", ["", "prompt tokens", "of them cached", "whole answer"], told)


if __name__ == "__main__":
    main()
