"""Ties a process to its parent: when the service dies, also by SIGKILL, its workers die with it.

`python -m pantry.engines.processes.guard PROGRAM ARGUMENTS...` does so and then becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PARENT_VARIABLE = "PANTRY_WORKER_PARENT"
"""Names the process that a worker belongs to."""
MEMORY_VARIABLE = "PANTRY_WORKER_MEMORY"
"""Bytes of private memory that a worker may take; 0 for no limit."""
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel (Linux: prctl PR_SET_PDEATHSIG) to kill this process when its parent ends; set its memory limit.

    The setting survives exec. Elsewhere nothing is set, and the next start of the service ends what is left over.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _limit_memory(int(os.environ.get(MEMORY_VARIABLE, "0")))
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)  # the parent ended before the setting took effect


def _limit_memory(limit: int) -> None:
    """Let allocations beyond `limit` bytes fail, so that a hostile file ends its worker and not the machine.

    RLIMIT_DATA counts private writable memory, not the mapped model file.
    """
    if limit and sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    die_with_parent()
    os.umask(0o077)
    os.execvp(sys.argv[1], sys.argv[1:])
