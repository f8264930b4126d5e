"""Runs a recipe's own script in a sandbox of bubblewrap: the package read-only, one folder to write to, nothing else.

The script sees the system's programs, this Python and this Pantry, all read-only; no home, no other process, no
variable of the environment, and no network unless it is granted. When it ends, or its time or memory is used up, every
process it started ends with it. https://github.com/containers/bubblewrap
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pantry.core.errors import MemoryBudgetError, TrainingError, UsageError
from pantry.core.files import storage_errors
from pantry.core.units import format_bytes, format_duration, printable

INSIDE = Path("/sandbox")
"""Where the output folder is inside; the package is below it, under its own name, so that results stand beside it."""
SCRATCH_BYTES = 256 << 20
"""Size of /tmp and of /dev/shm inside, both in memory."""
MAX_PROCESSES = 1000
MAX_LINE = 2000  # characters
WATCH_SECONDS = 0.25
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "localtime", "os-release", "fonts")
_ETC_NETWORK = ("resolv.conf", "hosts", "nsswitch.conf", "ssl", "ca-certificates", "pki", "gai.conf", "services")


@dataclass(frozen=True)
class Limits:
    """`seconds` of wall time, `memory` in bytes over all its processes, and whether it may use the network."""

    seconds: float
    memory: int
    network: bool = False


def require_sandbox() -> str:
    """The path of bwrap. Raises UsageError with the reason where a sandbox cannot be made."""
    program = shutil.which("bwrap")
    if program is None:
        raise UsageError(
            "A recipe's script runs only in a sandbox, and bubblewrap is not installed.",
            hint="Install it, for example: apt install bubblewrap",
        )
    words = [program, *_isolation(network=False), "--ro-bind", "/", "/", "true"]
    tried = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if tried.returncode:
        said = printable(tried.stderr.strip())[:300] or f"bwrap ended with {tried.returncode}"
        raise UsageError(
            f"A recipe's script runs only in a sandbox, and this system does not let bubblewrap make one: {said}",
            hint="It needs user namespaces; see: sysctl user.max_user_namespaces kernel.unprivileged_userns_clone",
        )
    return program


def run_script(package: Path, script: str, out: Path, limits: Limits, tell: Callable[[str], None]) -> list[str]:
    """Run `script` of the folder `package` with `out` to write to; `tell` gets each line it prints, made harmless.

    What it leaves in `out` that is not a plain file or folder (links, sockets, pipes) is deleted; the answer names it.
    Raises UsageError without a sandbox, TrainingError when it fails or its time is over, MemoryBudgetError,
    StorageError.
    """
    program = require_sandbox()
    with _mount_point(out, package.name):
        words = [*_isolation(limits.network), *_view(package, out, limits.network), *_command(script)]
        with _started(program, words) as process, _Watch(process, limits) as watch:
            for line in _lines(process):
                tell(line)
            process.wait()
        removed = _remove_what_is_no_file(out)
    if watch.reason:
        raise watch.reason
    if process.returncode:
        raise TrainingError(
            f"{script} ended with {process.returncode}.", hint="What it printed above says why; what it wrote is kept."
        )
    return removed


def _isolation(network: bool) -> list[str]:
    share = ["--share-net"] if network else []
    alone = ["--unshare-all", *share, "--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    return [*alone, "--uid", "65534", "--gid", "65534", "--die-with-parent", "--new-session", "--clearenv"]


def _view(package: Path, out: Path, network: bool) -> Iterator[str]:
    """The files inside, and the environment."""
    for place in _SYSTEM:
        yield from (
            ["--symlink", str(Path(place).readlink()), place] if Path(place).is_symlink() else _read_only(place)
        )
    for name in (*_ETC, *(_ETC_NETWORK if network else ())):
        yield from _read_only(f"/etc/{name}")
    yield from ("--proc", "/proc", "--dev", "/dev")
    for place in ("/tmp", "/dev/shm"):  # noqa: S108 - inside, where nobody else is
        yield from ("--size", str(SCRATCH_BYTES), "--tmpfs", place)
    for place in _python_places():
        yield from _read_only(place)
    yield from ("--bind", str(out.resolve()), str(INSIDE))
    yield from ("--ro-bind", str(package.resolve()), str(INSIDE / package.name))
    yield from ("--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(INSIDE / package.name))
    offline = {} if network else {"PANTRY_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}
    variables = {
        "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(INSIDE), "LANG": "C.UTF-8",
        "PANTRY_HOME": str(INSIDE / ".pantry"), "PANTRY_OUTPUT": str(INSIDE), "PYTHONDONTWRITEBYTECODE": "1", **offline,
    }  # fmt: skip
    for name, value in variables.items():
        yield from ("--setenv", name, value)


def _read_only(place: str) -> list[str]:
    return ["--ro-bind-try", place, place]


def _python_places() -> list[str]:
    """This Python, its packages, and this Pantry; what the system's folders hold already is left out."""
    import pantry

    names = dict.fromkeys([sys.prefix, sys.base_prefix, str(Path(str(pantry.__file__)).parent)])
    names |= dict.fromkeys([str(Path(name).resolve()) for name in names])
    return [name for name in names if not any(Path(name).is_relative_to(system) for system in _SYSTEM)]


def _command(script: str) -> list[str]:
    if script.endswith(".py"):
        return ["--", sys.executable, script]
    return ["--", "/bin/sh", script]


@contextlib.contextmanager
def _mount_point(out: Path, name: str) -> Iterator[None]:
    """`out` with an empty folder `name`, on which the package is mounted. Raises UsageError when something is there."""
    place = out / name
    with storage_errors(f"Making {out}"):
        if out.is_symlink() or place.is_symlink():
            raise UsageError(f"{out if out.is_symlink() else place} is a link.", hint="Name another folder with -o.")
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise UsageError(f"{place} is in the way.", hint="Name another folder with -o.")
        place.mkdir(exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            place.rmdir()
        shutil.rmtree(out / ".pantry", ignore_errors=True)


@contextlib.contextmanager
def _started(program: str, words: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """bwrap, running. However the block ends, every process inside is gone when it has.

    Nothing of ours is inherited: no terminal, no environment, no open file.
    """
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            [program, "--info-fd", str(writer), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env={}, cwd="/", pass_fds=(writer,),
        )  # fmt: skip
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as about:
        told = about.read()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
        _wait_for_the_first_inside(told)


def _wait_for_the_first_inside(told: bytes) -> None:
    """The first process inside takes all others with it; its death may come after that of bwrap outside."""
    until = time.monotonic() + 10
    with contextlib.suppress(ValueError, KeyError, psutil.Error):
        first = psutil.Process(int(json.loads(told)["child-pid"]))
        while first.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            time.sleep(0.01)


class _Watch:
    """Looks at time and memory while the script runs, and ends it when one is used up; `reason` is then the error."""

    def __init__(self, process: subprocess.Popen[bytes], limits: Limits) -> None:
        self.reason: TrainingError | MemoryBudgetError | None = None
        self._process, self._limits = process, limits
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        until = time.monotonic() + self._limits.seconds
        while not self._over.wait(WATCH_SECONDS):
            self.reason = self._fault(until)
            if self.reason:
                self._process.kill()
                return

    def _fault(self, until: float) -> TrainingError | MemoryBudgetError | None:
        used, count = _use_of(self._process.pid)
        if used > self._limits.memory:
            allowed = format_bytes(self._limits.memory)
            return MemoryBudgetError(f"The script used {format_bytes(used)} of memory; {allowed} are allowed.")
        if count > MAX_PROCESSES:
            return TrainingError(f"The script started {count} processes; {MAX_PROCESSES} are allowed.")
        if time.monotonic() > until:
            return TrainingError(
                f"The script was stopped after {format_duration(self._limits.seconds)}.",
                hint="Give it more time with --minutes.",
            )
        return None


def _use_of(pid: int) -> tuple[int, int]:
    """Bytes of memory that a process and all below it hold, shared pages counted once in all; and how many they are."""
    total, processes = 0, []
    with contextlib.suppress(psutil.Error):
        top = psutil.Process(pid)
        processes = [top, *top.children(recursive=True)]
    for process in processes[: MAX_PROCESSES + 1]:
        try:
            total += process.memory_full_info().pss
        except psutil.AccessDenied:
            total += process.memory_info().rss
        except psutil.Error:
            continue
    return total, len(processes)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The lines it prints, without control characters, long ones in parts."""
    if process.stdout is None:
        return
    while line := process.stdout.readline(MAX_LINE):
        yield printable(line.decode(errors="replace").rstrip("\r\n"))


def _remove_what_is_no_file(out: Path) -> list[str]:
    """Delete links, sockets and pipes below `out`, and take away set-id bits; the names of what was deleted."""
    removed = []
    for folder, names, files in os.walk(out, followlinks=False):
        for name in (*names, *files):
            path = Path(folder, name)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                path.unlink()
                removed.append(str(path.relative_to(out)))
            elif not path.is_dir():
                path.chmod(path.stat().st_mode & 0o777)
    return removed
