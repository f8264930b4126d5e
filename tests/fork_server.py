"""The process that `tests.processes` asks for `pantry` processes: it has imported Pantry, and forks one per request.

A request is one JSON object (words, the name of an installed script first; cwd; env) with four descriptors: standard
input, output and error, and a socket on which the process number is sent at once and the exit code at the end. What is
forked sees the folder, environment, streams and signals of a fresh `python -W error -m pantry WORDS`; only its imports
are done already.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from tests.catalogue.indexes import share_indexes

MAX_REQUEST = 1_000_000  # bytes
PLAIN_SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP)


def preload() -> None:
    """Import what most commands and the service import; nothing that starts threads, reads settings or opens files."""
    from pantry import operations
    from pantry.cli._app import build_app

    build_app()
    for module in pkgutil.iter_modules(operations.__path__):
        importlib.import_module(f"pantry.operations.{module.name}")
    importlib.import_module("pantry.service.server")


def serve(control: socket.socket) -> bool:
    """Fork a process per request. Returns False at the end of the requests, and True in a process that was forked."""
    ended, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(ended, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the tests
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    waiting: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([control, ended], [], [])
        if ended in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(ended, 4096)
            _report(waiting)
        if control not in ready:
            continue
        content, descriptors, _, _ = socket.recv_fds(control, MAX_REQUEST, 4)
        if not content:
            control.close()
            return False
        size, _, start = content.partition(b"\n")
        while len(start) < int(size):
            start += control.recv(int(size) - len(start))
        number = os.fork()
        if number == 0:
            control.detach()  # all of the server's descriptors are closed by their numbers
            for reply in waiting.values():
                reply.detach()
            signal.set_wakeup_fd(-1)
            _become(json.loads(start), descriptors)
            return True
        for descriptor in descriptors[:3]:
            os.close(descriptor)
        waiting[number] = socket.socket(fileno=descriptors[3])
        waiting[number].sendall(f"{number}\n".encode())


def _report(waiting: dict[int, socket.socket]) -> None:
    while waiting:
        number, status = os.waitpid(-1, os.WNOHANG)
        if number == 0:
            return
        with waiting.pop(number) as reply, contextlib.suppress(OSError):
            reply.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())


def _become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Take on the streams, folder, environment, arguments and signals of the process that was asked for."""
    for stream, descriptor in enumerate(descriptors[:3]):
        os.dup2(descriptor, stream)
    os.closerange(3, 256)
    for name, mode in (("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb")):
        number = ("stdin", "stdout", "stderr").index(name)
        old = getattr(sys, name)
        raw = open(number, mode, closefd=False)  # noqa: SIM115 (it stays open as the stream)
        new = io.TextIOWrapper(raw, old.encoding, old.errors, None if name == "stdin" else "\n", name == "stderr")
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    for number in PLAIN_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    extra = request["env"].get("PYTHONPATH", "")
    sys.path[0:1] = [request["cwd"], *(part for part in extra.split(os.pathsep) if part and part not in sys.path)]
    main = str(Path(sys.modules["pantry"].__file__ or "").with_name("__main__.py"))
    sys.argv = [main if request["words"][0] == "pantry" else request["words"][0], *request["words"][1:]]


if __name__ == "__main__":
    control = socket.socket(fileno=int(sys.argv[1]))
    preload()
    share_indexes(sys.argv[2])
    gc.freeze()  # what is imported here is not looked through again by each process, at its end above all
    if serve(control):
        from pantry.cli import _legacy, main

        scripts = {"compress-and-sign-fpk": _legacy.compress_and_sign, "verify-signed-fpk": _legacy.verify_signed}
        scripts.get(sys.argv[0], main)()
