"""A mixed load for a long time: `python -m bench.soak --minutes 60`. Ends with 1 when something grew or was left.

Good callers chat, stream, leave in the middle, keep sessions, register, ask, are approved and removed; bad ones send
garbage and half lines. Watched: resident memory, open files, workers and rows of the database, after a warm-up of a
quarter of the time and at the end. Memory may grow by 5 %, the rest not at all once the load has stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench._report import print_table
from pantry.client import Client
from pantry.core.errors import PantryError
from pantry.operations.apps import add_app, remove_app
from pantry.operations.requests import Limits, decide_request, list_requests
from pantry.permissions import Grant, Permission
from tests.service.running import Service, starting, wait_until

GROWTH = 1.05  # of resident memory, between the warm-up and the end
TABLES = ("apps", "keys", "grants", "requests", "sessions", "turns")


@dataclass
class Sample:
    """What the service holds: bytes, files, workers, rows."""

    memory: int
    files: int
    workers: int
    rows: int


def take(service: Service) -> Sample:
    """What it holds now."""
    process = psutil.Process(service.pid)
    with contextlib.closing(sqlite3.connect(service.paths.database)) as database:
        rows = sum(database.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES)
    return Sample(process.memory_info().rss, process.num_fds(), len(service.workers()), rows)


def chat(service: Service) -> None:
    assert Client(paths=service.paths).chat("one two three", model="echo").text == "one two three"


def leave(service: Service) -> None:
    stream = Client(paths=service.paths).stream("word", model="slow")
    next(stream)
    stream.close()


def converse(service: Service) -> None:
    session = Client(paths=service.paths).session(model="echo")
    for text in ("one", "two"):
        session.say(text)
    session.delete()


def come_and_go(service: Service) -> None:
    """An app's whole life: added, asks for a load, is answered, chats, is removed."""
    app, key = add_app(service.paths, "Soak", None, [Permission.SESSION, Permission.REQUEST_LOAD], Grant())
    try:
        client = Client(key=key, address=f"http://127.0.0.1:{service.port}", on_wait=lambda _: approve_all(service))
        client.load("echo")
        client.chat("hello", model="echo")
    finally:
        remove_app(service.paths, app.id)


def approve_all(service: Service) -> None:
    for request, _ in list_requests(service.paths):
        with contextlib.suppress(PantryError):
            decide_request(service.paths, request.id, Limits() if random.random() < 0.8 else None)


def garbage(service: Service) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(service.paths.call_socket))
        sock.sendall(random.choice([b"\xff\xfe\n", b"{" * 5000 + b"\n", b'{"function":"handshake', b"x" * 2_000_000]))


WORK: tuple[tuple[Callable[[Service], None], int], ...] = (
    (chat, 10), (leave, 2), (converse, 3), (come_and_go, 1), (garbage, 2),
)  # fmt: skip


def load(service: Service, until: float, counts: dict[str, int]) -> None:
    """One caller's work until a moment of the monotonic clock."""
    works, weights = zip(*WORK, strict=True)
    while time.monotonic() < until:
        work = random.choices(works, weights)[0]
        with contextlib.suppress(PantryError, OSError):
            work(service)
            counts[work.__name__] = counts.get(work.__name__, 0) + 1


def soak(minutes: float, callers: int = 4) -> list[str]:
    """Run the load; what grew or was left, in words. Prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(Path(folder) / "home", {"PANTRY_BODY_TIMEOUT": "2", "PANTRY_NOTIFY": "false"})
        service.add_echo("echo")
        service.add_echo("slow", delay=0.05, repeat=100)
        with starting(service):
            counts: dict[str, int] = {}
            seconds, start = minutes * 60, time.monotonic()
            threads = [
                threading.Thread(target=load, args=(service, start + seconds, counts), daemon=True)
                for _ in range(callers)
            ]
            for thread in threads:
                thread.start()
            samples: list[tuple[float, Sample]] = []
            while time.monotonic() < start + seconds:
                time.sleep(max(0.2, seconds / 100))
                samples.append((time.monotonic() - start, take(service)))
            for thread in threads:
                thread.join()
            return verdicts(service, seconds, samples, counts)


def verdicts(
    service: Service, seconds: float, samples: list[tuple[float, Sample]], counts: dict[str, int]
) -> list[str]:
    warm = [each for when, each in samples if seconds / 4 <= when < seconds / 2]
    late = [each for when, each in samples if when >= seconds * 3 / 4]
    first, last = (statistics.median(each.memory for each in part) for part in (warm, late))
    left = take(service)
    faults = []
    if last > first * GROWTH:
        faults.append(f"memory grew from {first / 1e6:.1f} to {last / 1e6:.1f} MB")
    with contextlib.suppress(AssertionError):
        wait_until(lambda: take(service).files <= 40, 10)
    left = take(service)
    if left.files > 40:
        faults.append(f"{left.files} files are open after the load")
    if left.workers > 2:
        faults.append(f"{left.workers} workers run for 2 models")
    if left.rows > 1:
        faults.append(f"{left.rows} rows are left, 1 expected (the owner's key)")
    rows = [
        ["memory after warm-up, at the end", f"{first / 1e6:.1f} MB, {last / 1e6:.1f} MB ({last / first - 1:+.1%})"],
        ["files, workers, rows left", f"{left.files}, {left.workers}, {left.rows}"],
        ["calls", ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))],
    ]
    print_table(f"Soak of {seconds / 60:g} minutes", ["", ""], rows)
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    faults = soak(parser.parse_args().minutes)
    if faults:
        sys.exit("; ".join(faults))


if __name__ == "__main__":
    main()
