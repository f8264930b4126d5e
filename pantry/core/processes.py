"""Telling a process from a later one that was given the same number."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_START_TIME = 19  # field of /proc/PID/stat after the name, which may hold spaces itself


def process_mark(pid: int | None = None) -> float | None:
    """When a process (this one when left out) started, in a unit of the system; None when there is no such process.

    With the number it names a process for good: numbers are given again, this pair is not.
    """
    pid = os.getpid() if pid is None else pid
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else float(fields[_START_TIME])
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, IndexError, ValueError):
        return None
    import psutil

    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    return None
