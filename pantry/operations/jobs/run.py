"""Running jobs: in the foreground of a command, or from the queue in a process of its own; and settling lost ones."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from pantry.core.errors import PantryError
from pantry.core.faults import record_fault
from pantry.core.paths import Paths
from pantry.operations.jobs.context import Heartbeat, JobContext
from pantry.operations.jobs.kind import KINDS, JobKind
from pantry.store.database import Database
from pantry.store.jobs import Job, JobError, Jobs

MAX_KILLS = 5  # processes that may be killed at a job before it is not taken up again


@contextlib.contextmanager
def in_foreground(paths: Paths, kind: str, parameters: Mapping[str, Any]) -> Iterator[JobContext]:
    """A job for the time of the block, which does the work and may set the context's `result`.

    Other processes see it and may cancel it, which raises KeyboardInterrupt in the block, as Ctrl-C does. How the block
    ends is how the job ends. Raises NotFoundError (no such kind), StorageError.
    """
    title = KINDS.get(kind).title(parameters)
    with Database(paths.database) as database:
        jobs = Jobs(database, paths.job_logs)
        job = jobs.add(kind, title, parameters, foreground=True)
    with _running(paths, job) as context:
        yield context


def run_queued(paths: Paths, id: str) -> None:
    """Run a job from the queue to its end, in this process; nothing if it is not queued. Its errors are its row's."""
    with Database(paths.database) as database:
        jobs = Jobs(database, paths.job_logs)
        if not jobs.claim(id):
            return
        job = jobs.get(id)
    with contextlib.suppress(PantryError, KeyboardInterrupt), _running(paths, job) as context:
        kind: JobKind = KINDS.get(job.kind)
        context.result = kind.run(context, job.parameters)


def settle_lost(database: Database, paths: Paths) -> list[Job]:
    """Give every job whose process ended a state that says so: queued again where it goes on by itself.

    A service takes up queued jobs; a command at a terminal is the user's to repeat, and its job says how.
    """
    jobs = Jobs(database, paths.job_logs)
    lost = jobs.lost()
    for job in lost:
        if job.state == "cancelling":
            jobs.finish(job, "cancelled")
        elif (reason := _end_of(job)) is None:
            jobs.requeue(job, killed=True)
        else:
            jobs.finish(job, "interrupted", error=reason)
    return lost


def _end_of(job: Job) -> JobError | None:
    """Why a job does not go on though its process ended; None when it does."""
    try:
        kind: JobKind = KINDS.get(job.kind)
    except PantryError as error:
        return JobError.of(error)
    hint = f"{'Go on' if kind.resumes else 'Begin anew'} with: {kind.again(job.parameters)}"
    if job.foreground:
        return JobError("interrupted", "Its command was killed before it came to the end.", hint)
    if not kind.resumes:
        return JobError(
            "interrupted", "Its process was killed, and a job of this kind cannot go on where it stopped.", hint
        )
    if job.kills + 1 >= MAX_KILLS:
        return JobError("interrupted", f"{job.kills + 1} processes were killed while they ran it.", hint)
    return None


@contextlib.contextmanager
def _running(paths: Paths, job: Job) -> Iterator[JobContext]:
    """Do the job in the block, under a heartbeat; how the block ends is written down."""
    context = JobContext(paths, job)
    with _stopped_by_signal() as runs_in_main:
        heartbeat = Heartbeat(context, runs_in_main=runs_in_main)
        heartbeat.start()
        try:
            try:
                yield context
            finally:
                heartbeat.end()
        except BaseException as error:
            with contextlib.suppress(PantryError):  # a full disk, say: the error at hand matters more
                _record_end(context, error)
            raise
        _record_end(context, None)


def _record_end(context: JobContext, error: BaseException | None) -> None:
    job, paths = context.job, context.paths
    with Database(paths.database) as database:
        jobs = Jobs(database, paths.job_logs)
        if error is None:
            jobs.finish(job, "done", result=context.result)
        elif isinstance(error, PantryError):
            context.log(str(error))
            jobs.finish(job, "failed", error=JobError.of(error))
        elif not isinstance(error, KeyboardInterrupt):
            fault = record_fault(paths.fault_log, error, f"doing a job of the kind {job.kind}", quote=True)
            context.log(str(fault))
            jobs.finish(job, "failed", error=JobError.of(fault))
        elif job.foreground or jobs.state_of(job.id) == "cancelling":
            jobs.finish(job, "cancelled")
        else:
            jobs.requeue(job)  # the service stops; its next start goes on


@contextlib.contextmanager
def _stopped_by_signal() -> Iterator[bool]:
    """Let SIGTERM raise KeyboardInterrupt in the main thread; False where this is another thread."""
    if threading.current_thread() is not threading.main_thread():
        yield False
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield True
    finally:
        signal.signal(signal.SIGTERM, before)
