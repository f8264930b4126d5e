"""A process for one job of the queue, started and ended by the service: `python -m … CONFIG DATA RUN ID`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pantry.core.paths import Paths
from pantry.engines.processes.guard import die_with_parent
from pantry.operations.jobs.run import run_queued


def main(arguments: list[str]) -> int:
    """Run the job; it ends with the service."""
    die_with_parent()
    os.umask(0o077)
    config, data, run, id = arguments
    run_queued(Paths(Path(config), Path(data), Path(run)), id)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
