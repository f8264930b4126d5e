"""A mixed load for a long time: `python -m bench.soak --minutes 60`. Ends with 1 when something grew or was left.

Good callers chat, stream, leave in the middle, keep sessions, register, ask, are approved and removed; browsers log in
on the page, look and log out; bad ones send garbage and half lines. Watched: resident memory, open files, workers and
rows of the database, after a warm-up of a quarter of the time and at the end. Memory may grow by 5 %, the rest not at
all once the load has stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import random
import socket
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench._report import print_table
from pantry.access.apps import add_app, remove_app
from pantry.access.requests import Limits, decide_request, list_requests
from pantry.client import Client
from pantry.core.errors import PantryError
from pantry.core.permissions import Grant, Permission
from pantry.operations.service import page_link
from tests.service.running import AS_INSTALLED, Service, starting, wait_until

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


def look_at_the_page(service: Service) -> None:
    """A browser's visit: logged in with a one-time code, two looks, logged out half of the time."""
    code = page_link(service.paths).partition("#")[2]
    own = f"http://127.0.0.1:{service.port}"
    headers = {"Origin": own, "Content-Type": "application/json"}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)) as browser:
        browser.request("POST", "/ui/login", json.dumps({"code": code}), headers)
        answer = browser.getresponse()
        headers["Cookie"] = str(answer.getheader("Set-Cookie")).partition(";")[0]
        headers["X-Pantry-Page"] = json.loads(answer.read())["token"]
        ways = ["GET /ui/", "GET /admin/overview", "GET /admin/overview", "POST /ui/logout"]
        for way in ways[: random.choice((3, 4))]:
            browser.request(*way.split(" "), None, headers)
            answer = browser.getresponse()
            answer.read()
            assert answer.status == 200, answer.status


def garbage(service: Service) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(service.paths.call_socket))
        sock.sendall(random.choice([b"\xff\xfe\n", b"{" * 5000 + b"\n", b'{"function":"handshake', b"x" * 2_000_000]))


WORK: tuple[tuple[Callable[[Service], None], int], ...] = (
    (chat, 10), (leave, 2), (converse, 3), (come_and_go, 1), (look_at_the_page, 1), (garbage, 2),
)  # fmt: skip


MAY_FAIL = {"come_and_go", "garbage"}
"""Work that ends with an error now and then: a load that was refused, a line that was cut off."""
TOLERATED = 0.005  # of the calls may fail: a client that gets no processor for seconds takes the service for stopped
MAX_CALL = 60.0  # seconds after the end of the load that a caller may still wait


class CallerThread(threading.Thread):
    """One caller's work until a moment of the monotonic clock."""

    def __init__(self, service: Service, until: float) -> None:
        super().__init__(daemon=True)
        self.service, self.until = service, until
        self.doing = ""
        self.counts: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def run(self) -> None:
        works, weights = zip(*WORK, strict=True)
        while time.monotonic() < self.until:
            work = random.choices(works, weights)[0]
            self.doing = work.__name__
            try:
                work(self.service)
                self.counts[self.doing] += 1
            except (PantryError, OSError, AssertionError, http.client.HTTPException) as error:
                if self.doing not in MAY_FAIL:
                    self.failures[f"{self.doing}: {type(error).__name__}: {error}"[:200]] += 1


def soak(minutes: float, callers: int = 4) -> list[str]:
    """Run the load; what grew or was left, in words. Prints a table."""
    with tempfile.TemporaryDirectory() as folder:
        service = Service(
            Path(folder) / "home", {"PANTRY_BODY_TIMEOUT": "2", "PANTRY_NOTIFY": "false"}, program=AS_INSTALLED
        )
        service.add_echo("echo")
        service.add_echo("slow", delay=0.05, repeat=100)
        with starting(service):
            seconds, start = minutes * 60, time.monotonic()
            threads = [CallerThread(service, start + seconds) for _ in range(callers)]
            for thread in threads:
                thread.start()
            samples: list[tuple[float, Sample]] = []
            while time.monotonic() < start + seconds:
                time.sleep(max(0.2, seconds / 100))
                samples.append((time.monotonic() - start, take(service)))
            for thread in threads:
                thread.join(MAX_CALL)
            return complaints(threads) + verdicts(
                service, seconds, samples, sum((t.counts for t in threads), Counter())
            )


def complaints(threads: list[CallerThread]) -> list[str]:
    """What the callers did not get: an answer at all, or a good one."""
    told = [f"a caller still waits for its answer in {thread.doing}" for thread in threads if thread.is_alive()]
    failures: Counter[str] = sum((thread.failures for thread in threads), Counter())
    most = TOLERATED * sum((thread.counts for thread in threads), Counter()).total()
    words = [f"{failure} ({count} times)" for failure, count in failures.most_common(5)]
    for line in words:
        print(line)
    return told + (words if failures.total() > most else [])


def verdicts(service: Service, seconds: float, samples: list[tuple[float, Sample]], counts: Counter[str]) -> list[str]:
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
