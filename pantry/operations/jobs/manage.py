"""What the owner asks of jobs: to see them, to stop one, to read its log."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pantry.core.paths import Paths
from pantry.operations.jobs.run import settle_lost
from pantry.store.database import Database
from pantry.store.jobs import Job, Jobs

RECENT = 10  # ended jobs that are listed when not all are asked for


def list_jobs(paths: Paths, *, everything: bool = False) -> list[Job]:
    """The jobs that did not end, and the last that did; or all that are kept. Oldest first."""
    with _jobs(paths) as jobs:
        found = jobs.list()
    if everything:
        return found
    recent = {
        job.id for job in sorted((job for job in found if job.ended), key=lambda job: job.ended_at or "")[-RECENT:]
    }
    return [job for job in found if not job.ended or job.id in recent]


def get_job(paths: Paths, text: str) -> Job:
    """The job whose id is `text` or starts with it. Raises NotFoundError."""
    with _jobs(paths) as jobs:
        return jobs.find(text)


def cancel_job(paths: Paths, text: str) -> Job:
    """Stop a job, whichever process runs it; it stops within a second or two. Raises NotFoundError, ConflictError."""
    with _jobs(paths) as jobs:
        return jobs.cancel(jobs.find(text).id)


def read_log(paths: Paths, id: str, offset: int = 0) -> tuple[str, int]:
    """A job's log from byte `offset` on, and the offset to go on from."""
    with _jobs(paths) as jobs:
        return jobs.log(id).read(offset)


@contextlib.contextmanager
def _jobs(paths: Paths) -> Iterator[Jobs]:
    with Database(paths.database) as database:
        settle_lost(database, paths)
        yield Jobs(database, paths.job_logs)
