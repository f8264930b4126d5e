"""Starting, finding and stopping the service of a home."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from pantry.client.connection import ServiceConnection
from pantry.client.discovery import ServiceInfo, read_service_info
from pantry.core.errors import ConflictError, PantryError, ServiceUnavailableError
from pantry.core.files import storage_errors
from pantry.core.paths import Paths, make_private

START_TIMEOUT = 30.0  # seconds a detached service may take until it answers
STOP_TIMEOUT = 15.0  # seconds a service may take to stop
POLL = 0.02  # seconds


@dataclass(frozen=True)
class Started:
    """A running service, and whether this call started it."""

    info: ServiceInfo
    new: bool


def find_service(paths: Paths) -> ServiceInfo | None:
    """The service of this home if one answers, else None."""
    try:
        ServiceConnection(paths).get("/readyz")
    except ServiceUnavailableError:
        return None
    return read_service_info(paths)


def ensure_service(paths: Paths, options: list[str] | None = None) -> Started:
    """The running service, started in the background first if there is none.

    Raises ServiceUnavailableError with the end of its log when it does not come up.
    """
    if info := find_service(paths):
        return Started(info, new=False)
    log = paths.logs / "service.log"
    with storage_errors(f"Writing {log}"):
        make_private(paths.logs)
        with log.open("ab") as output:
            position = output.tell()
            process = subprocess.Popen(
                [sys.executable, "-m", "pantry", "up", *(options or [])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
            )
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if info := find_service(paths):
            return Started(info, new=info.pid == process.pid)
        if process.poll() is not None and not _another_is_starting(process.returncode):
            break
        time.sleep(POLL)
    raise ServiceUnavailableError(f"Pantry did not start: {_reason(log, position)}", hint=f"Its log is {log}.")


def stop_service(paths: Paths) -> bool:
    """Stop the service of this home; False when none runs. Raises PantryError when it does not end."""
    info = read_service_info(paths)
    if info is None or not _is_service(info):
        return False
    os.kill(info.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        if not _is_service(info):
            return True
        time.sleep(POLL)
    raise PantryError(
        f"Process {info.pid} did not stop within {STOP_TIMEOUT:.0f} seconds.", hint=f"End it with: kill -9 {info.pid}"
    )


def _is_service(info: ServiceInfo) -> bool:
    """Whether the process that wrote `info` lives: a later one with its number started after it wrote."""
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(info.pid)
        return process.create_time() <= info.started_at + 1 and process.status() != psutil.STATUS_ZOMBIE
    return False


def _another_is_starting(exit_code: int) -> bool:
    """Two starts at once: one gets the lock, the other ends with the code of a conflict and waits for the first."""
    return exit_code == ConflictError.exit_code


def _reason(log: Path, position: int) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(position)
        lines = file.read(100_000).decode("utf-8", "replace").strip().splitlines()
        told = [line.removeprefix("Error:").strip() for line in lines if line.startswith("Error:")]
        if told or lines:
            return (told or lines)[-1]
    return "it gave no reason."
