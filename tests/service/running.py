"""A real service process for tests: started on a home and port of its own, spoken to over loopback."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pantry.core.paths import Paths, find_paths
from pantry.core.refs import ModelName
from pantry.install.installed import add_model
from pantry.store.models import Store
from tests.processes import PantryProcess


def free_port() -> int:
    """The first of a run of ports that are free now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return min(int(sock.getsockname()[1]), 65000)


Headers = dict[str, str]


AS_INSTALLED = (sys.executable, "-m", "pantry")
"""The program of a service as a user starts it: for measuring, since a forked one has imported more."""


@dataclass
class Service:
    """A home, and the service process on it once `start` was called."""

    home: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: PantryProcess | subprocess.Popen[str] | None = None
    port: int = 0
    program: tuple[str, ...] = ()
    """What to run in place of `pantry`, as a process that was not forked."""

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PANTRY_")}
        return {**inherited, **self.settings, "PANTRY_HOME": str(self.home)}

    @property
    def paths(self) -> Paths:
        return find_paths({"PANTRY_HOME": str(self.home)})

    @property
    def key(self) -> str:
        return self.paths.key_file.read_text().strip()

    @property
    def pid(self) -> int:
        assert self.process
        return self.process.pid

    def add_echo(self, name: str = "echo", **model: Any) -> None:
        """Install an echo model (keys: see the echo engine)."""
        self.home.mkdir(parents=True, exist_ok=True)
        file = self.home / f"{name}.echo"
        file.write_text(json.dumps(model))
        with Store.open(self.paths) as store:
            add_model(store, file, ModelName.parse(name))

    def start(self, *options: str) -> Service:
        """Start and wait until it is ready; fails with its output when it ends instead."""
        words = ("up", "--port", str(free_port()), *options)
        if self.program:
            self.process = subprocess.Popen(
                [*self.program, *words],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        else:
            self.process = PantryProcess(*words, env=self.environment, merged=True)
        assert self.process.stdout
        seen = []
        for line in self.process.stdout:
            seen.append(line)
            if line.startswith("Pantry is ready"):
                self.port = json.loads(self.paths.service_file.read_text())["port"]
                return self
        raise AssertionError("the service did not start:\n" + "".join(seen))

    def stop(self) -> str:
        """Stop it as a user would (SIGTERM); the rest of its output."""
        assert self.process
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            output, _ = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        return output

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "owner",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """One request over TCP with the owner's key; status and JSON (or text)."""
        status, _, content = self.ask_raw(method, path, body, key=key, headers=headers)
        with contextlib.suppress(ValueError):
            return status, json.loads(content)
        return status, content

    def ask_raw(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "owner",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Content-Type": "application/json", **(headers or {})}
        if key:
            sent["Authorization"] = f"Bearer {self.key if key == 'owner' else key}"
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        try:
            connection.request(method, path, data, sent)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def workers(self) -> list[psutil.Process]:
        """The worker processes of this service."""
        return [p for p in psutil.Process(self.pid).children() if p.status() != psutil.STATUS_ZOMBIE]

    def worker_is_busy(self, name: str = "echo") -> bool:
        """Whether the model's worker writes an answer, as the service counts it."""
        _, answer = self.ask("GET", "/admin/loaded")
        return any(row["name"] == name and row["active"] for row in answer["loaded"])


@contextlib.contextmanager
def running_service(home: Path, *options: str, **settings: str) -> Iterator[Service]:
    """A started service, stopped at the end; fails when it logged a fault of its own or left a worker."""
    service = Service(home, settings)
    with starting(service, *options):
        yield service


@contextlib.contextmanager
def starting(service: Service, *options: str) -> Iterator[Service]:
    service.start(*options)
    workers: list[psutil.Process] = []
    try:
        yield service
        with contextlib.suppress(psutil.Error):
            workers = service.workers()
    finally:
        output = service.stop()
    assert "Traceback" not in output, output
    assert not [worker for worker in workers if worker.is_running()], "a worker outlived its service"


def wait_until(condition: Any, seconds: float = 20.0) -> float:
    """Wait for a condition; the seconds it took. Fails when it does not come true."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - start


def events(content: bytes) -> list[Any]:
    """The JSON objects of a stream's events, [DONE] as the string."""
    lines = [line[6:] for line in content.decode().splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]
