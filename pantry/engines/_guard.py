"""Ties a process to its parent: when the service dies, also by SIGKILL, its workers die with it.

`python -m pantry.engines._guard PROGRAM ARGUMENTS...` does so and then becomes the program.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PARENT_VARIABLE = "PANTRY_WORKER_PARENT"
"""Names the process that a worker belongs to."""
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the kernel (Linux: prctl PR_SET_PDEATHSIG) to kill this process when its parent ends.

    The setting survives exec. Elsewhere nothing is set, and the next start of the service ends what is left over.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)  # the parent ended before the setting took effect


if __name__ == "__main__":
    die_with_parent()
    os.umask(0o077)
    os.execvp(sys.argv[1], sys.argv[1:])
