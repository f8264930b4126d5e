"""Starting, finding and stopping the service of a home."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path, PurePath

from pantry.client.connection import ServiceConnection
from pantry.client.discovery import ServiceInfo, lock_holder
from pantry.core.errors import PantryError, ServiceUnavailableError, UsageError, did_you_mean
from pantry.core.files import storage_errors
from pantry.core.locks import locked
from pantry.core.paths import Paths, absolute_home, make_private

START_TIMEOUT = 60.0  # seconds a detached service may take until it answers
STOP_TIMEOUT = 15.0  # seconds a service may take to stop
POLL = 0.02  # seconds
MAX_LOG = 5_000_000  # bytes


@dataclass(frozen=True)
class Started:
    """A running service, and whether this call started it."""

    info: ServiceInfo
    new: bool


def find_service(paths: Paths) -> ServiceInfo | None:
    """The service of this home if one answers on its socket, else None. Raises ForbiddenError for another user's."""
    try:
        return ServiceInfo(**ServiceConnection(paths).get("/admin/service"))
    except ServiceUnavailableError:
        return None


def ensure_service(paths: Paths, options: list[str] | None = None) -> Started:
    """The running service, started in the background first if there is none.

    Callers at the same time start one service between them. Raises ServiceUnavailableError with the end of its log
    when it does not come up; what was started is ended then.
    """
    if info := find_service(paths):
        return Started(info, new=False)
    make_private(paths.run)
    with locked(paths.run / "start.lock"):
        if info := find_service(paths):
            return Started(info, new=False)
        if lock_holder(paths) is not None:  # started by hand, and about to answer
            return Started(_wait(paths, None, paths.logs / "service.log", 0), new=False)
        log = _service_log(paths)
        with storage_errors(f"Writing {log}"), log.open("ab") as output:
            position = output.tell()
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pantry", "up", *(options or [])],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd="/",
                env=_environment(),
            )
        return Started(_wait(paths, process, log, position), new=True)


def stop_service(paths: Paths) -> bool:
    """Stop the service of this home; False when none runs. Raises PantryError when it does not end."""
    info = find_service(paths)
    pid = info.pid if info else lock_holder(paths)
    if pid is None:
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_TIMEOUT
    while time.monotonic() < deadline:
        if lock_holder(paths) is None:
            return True
        time.sleep(POLL)
    raise PantryError(
        f"Process {pid} did not stop within {STOP_TIMEOUT:.0f} seconds.", hint=f"End it with: kill -9 {pid}"
    )


def _wait(paths: Paths, process: subprocess.Popen[bytes] | None, log: Path, position: int) -> ServiceInfo:
    """Wait until the service answers; `process` is the one just started, if any."""
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if info := find_service(paths):
            return info
        if process is not None and process.poll() is not None and lock_holder(paths) is None:
            break
        time.sleep(POLL)
    if process is not None and process.poll() is None:
        process.terminate()
    raise ServiceUnavailableError(f"Pantry did not start: {_reason(log, position)}", hint=f"Its log is {log}.")


def _environment() -> dict[str, str]:
    """This process's variables, with a relative PANTRY_HOME made absolute: the service runs in another folder."""
    home = os.environ.get("PANTRY_HOME")
    return {**os.environ, "PANTRY_HOME": str(absolute_home(home))} if home else dict(os.environ)


def _service_log(paths: Paths) -> Path:
    """The log of services in the background; an old one that grew large is kept beside it once."""
    log = paths.logs / "service.log"
    with storage_errors(f"Writing {log}"):
        make_private(paths.logs)
        if log.exists() and log.stat().st_size > MAX_LOG:
            log.replace(log.with_suffix(".log.old"))
    return log


def _reason(log: Path, position: int) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(position)
        lines = file.read(100_000).decode("utf-8", "replace").strip().splitlines()
        told = [line.removeprefix("Error:").strip() for line in lines if line.startswith("Error:")]
        if told or lines:
            return (told or lines)[-1]
    return "it gave no reason."


def client_variables(paths: Paths) -> dict[str, str]:
    """Names and values for OpenAI clients. Raises ServiceUnavailableError when the service does not run."""
    info = find_service(paths)
    if info is None:
        raise ServiceUnavailableError("Pantry is not running.", hint="Start it with: pantry up --detach")
    with storage_errors("Reading the owner's key"):
        key = paths.key_file.read_text().strip()
    return {
        "OPENAI_BASE_URL": f"{info.url}/v1",
        "OPENAI_API_BASE": f"{info.url}/v1",
        "OPENAI_API_KEY": key,
        "PANTRY_URL": info.url,
    }


def shell_lines(variables: dict[str, str], shell: str | None) -> str:
    """The lines that set the variables in `shell`, or in the shell that the variable SHELL names."""
    name = shell or PurePath(os.environ.get("SHELL", "sh")).name
    if name in ("sh", "bash", "zsh", "dash", "ksh", "ash"):
        form = "export {name}={value}"
    elif name == "fish":
        form = "set -gx {name} {value};"
    elif name in ("powershell", "pwsh"):
        form = "$Env:{name} = {value}"
    else:
        hint = did_you_mean(name, ["sh", "fish", "powershell"], "Use --shell sh.")
        raise UsageError(f"The shell {name!r} is not known.", hint=hint)
    return "\n".join(form.format(name=key, value=shlex.quote(value)) for key, value in variables.items())


def page_link(paths: Paths) -> str:
    """An address that logs one browser in, once; the service is started when none runs.

    The code is behind the `#`: browsers send that part to nobody, and the page takes it out of the address at once.
    """
    info = ensure_service(paths).info
    code = ServiceConnection(paths).post("/admin/page-code", {})["code"]
    return f"{info.url}/ui/#{code}"
