"""`pantry` processes for tests, forked by a process that has imported Pantry already: 50 ms instead of a second.

They behave like real ones: a folder, environment, streams, signals and exit code of their own. A few tests start
`python -m pantry` itself (tests/cli/test_app.py, test_commands.py, service/test_server.py), where the start, a shell,
a terminal or the imports are what is tested.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from tests.catalogue.indexes import shared_folder

ROOT = Path(__file__).parent.parent


@functools.cache
def _control() -> tuple[subprocess.Popen[bytes], socket.socket, threading.Lock]:
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tests.fork_server", str(theirs.fileno()), shared_folder()],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno()],
        # A shell starts what it runs in the background with SIGINT ignored, and that is inherited.
        env={name: value for name, value in os.environ.items() if not name.startswith("PANTRY_")},
    )
    theirs.close()

    @atexit.register
    def end() -> None:
        ours.close()
        process.wait(timeout=10)

    return process, ours, threading.Lock()


class PantryProcess:
    """A running `pantry WORDS`, used like a `subprocess.Popen` with text pipes (stderr into stdout if `merged`)."""

    def __init__(
        self,
        *words: str | Path,
        env: Mapping[str, str],
        cwd: Path | None = None,
        merged: bool = False,
        script: str = "pantry",
    ) -> None:
        self.args = [script, *map(os.fspath, words)]
        self.returncode: int | None = None
        self._output: tuple[str, str] | None = None
        inward, self.stdin = _pipe(write_end_is_ours=True)
        outward, self.stdout = _pipe(write_end_is_ours=False)
        errors, self.stderr = (os.dup(outward), None) if merged else _pipe(write_end_is_ours=False)
        self._reply, theirs = socket.socketpair()
        request = {"words": self.args, "env": dict(env), "cwd": os.fspath(cwd or Path.cwd())}
        content = json.dumps(request).encode()
        _, control, lock = _control()
        descriptors = [inward, outward, errors, theirs.fileno()]
        with lock:
            sent = socket.send_fds(control, [f"{len(content)}\n".encode() + content], descriptors)
            control.sendall((f"{len(content)}\n".encode() + content)[sent:])
        theirs.close()
        for descriptor in descriptors[:3]:
            os.close(descriptor)
        self._replies = ""
        self.pid = self._next_reply(60)

    def __enter__(self) -> PantryProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()
        self._close()

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _next_reply(self, timeout: float | None) -> int:
        """The next number that the fork server tells of this process. Raises subprocess.TimeoutExpired."""
        while "\n" not in self._replies:
            if not select.select([self._reply], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            told = self._reply.recv(100).decode()
            assert told, "the fork server has ended; its standard error says why"
            self._replies += told
        number, _, self._replies = self._replies.partition("\n")
        return int(number)

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, or minus the number of the signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            self.returncode = self._next_reply(timeout)
            self._reply.close()
        return self.returncode

    def poll(self) -> int | None:
        """As `wait`, but None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, input: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Give it `input`, read its output to the end; output and errors. Raises subprocess.TimeoutExpired.

        Asked again, it gives the same.
        """
        if self._output is not None:
            return self._output
        found = {"out": "", "err": ""}

        def read(name: str, stream: IO[str] | None) -> None:
            found[name] = stream.read() if stream else ""

        threads = [
            threading.Thread(target=read, args=(name, stream), daemon=True)
            for name, stream in (("out", self.stdout), ("err", self.stderr))
        ]
        for thread in threads:
            thread.start()
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(input)
        with contextlib.suppress(BrokenPipeError):
            self.stdin.close()
        self.wait(timeout)
        for thread in threads:
            thread.join(timeout)
            if thread.is_alive():  # a process it left behind holds the stream
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self._close()
        self._output = found["out"], found["err"]
        return self._output


def _pipe(*, write_end_is_ours: bool) -> tuple[int, Any]:
    read, write = os.pipe()
    if write_end_is_ours:
        return read, open(write, "w", encoding="utf-8", newline="")  # noqa: PTH123 (closed by its process)
    return write, open(read, encoding="utf-8")  # noqa: PTH123 (closed by its process)


def run_pantry(
    *words: str | Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: str = "",
    timeout: float = 60,
    script: str = "pantry",
) -> subprocess.CompletedProcess[str]:
    """Run `pantry WORDS`, or another installed script, to its end, as `subprocess.run` does.

    The environment is that of the tests without `env`.
    """
    process = PantryProcess(*words, env=os.environ if env is None else env, cwd=cwd, script=script)
    try:
        out, err = process.communicate(stdin, timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.wait(), out, err)
