"""Jobs in processes of their own, as the service runs them, for tests."""

from __future__ import annotations

import os
import subprocess
import sys

from pantry.core.paths import Paths
from pantry.operations.jobs.manage import get_job
from pantry.store.database import Database
from pantry.store.jobs import Job, Jobs
from tests.service.running import wait_until


def queue(paths: Paths, kind: str, parameters: dict[str, object]) -> Job:
    with Database(paths.database) as database:
        return Jobs(database, paths.job_logs).add(kind, "a test", parameters)


def start(paths: Paths, job: Job) -> subprocess.Popen[bytes]:
    """The process that runs the job; it dies with this one."""
    words = [*map(str, (paths.config, paths.data, paths.run)), job.id]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "pantry.operations.jobs.process", *words],
        env={**os.environ, "PANTRY_WORKER_PARENT": str(os.getpid()), "OMP_NUM_THREADS": "1"},
    )


def wait_for_progress(paths: Paths, id: str, step: str = "", more_than: int = 0) -> Job:
    """Wait until a job got on, in the step of that name where one is given; the job."""

    def got_on() -> bool:
        job = get_job(paths, id)
        assert not job.ended, f"it ended: {job.state} {job.error}"
        return job.progress.done > more_than and step in ("", job.progress.step)

    wait_until(got_on, 60)
    return get_job(paths, id)
