"""What a job reports to while it runs: steps, progress, log. That is cheap: a thread writes it down now and then."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from dataclasses import replace
from typing import Any

from pantry.core.errors import PantryError
from pantry.core.paths import Paths
from pantry.store.database import Database
from pantry.store.job_log import JobLog
from pantry.store.jobs import Job, JobProgress, Jobs

TICK = 0.5  # seconds between two looks at the row, at each of which progress is written if there is any
SMOOTHING = 0.3  # weight of the newest rate in the rate that is shown
LEAST_RATE = 1e-3  # units a second; what is slower has stopped
ASK_AGAIN = 5.0  # seconds after which a job that did not stop is asked once more


class JobContext:
    """The job as its work sees it. `resuming` says that an earlier process ran it and did not come to the end."""

    def __init__(self, paths: Paths, job: Job) -> None:
        self.paths, self.job = paths, job
        self.resuming = job.runs > 1
        self.result: dict[str, Any] | None = None
        """What the job leaves behind; set by its end."""
        self._log = JobLog(paths.job_logs / f"{job.id}.log")
        self._progress = JobProgress()
        self._lock = threading.Lock()

    def step(self, name: str, words: str = "") -> None:
        """Begin a step, or say something about the one at hand; it goes into the log."""
        with self._lock:
            if name != self._progress.step:
                self._progress = JobProgress(name)
        self.log(f"{name}: {words}" if words else name)

    def progress(self, done: int, total: int | None, unit: str = "bytes") -> None:
        """Say how much of the step at hand is done, and of how much."""
        with self._lock:
            self._progress = JobProgress(self._progress.step, done, total, unit)

    def log(self, text: str) -> None:
        """Add to the job's log. That it cannot be written ends no job."""
        with contextlib.suppress(PantryError):
            self._log.add(text)

    @property
    def now(self) -> JobProgress:
        """How far it is, as last reported."""
        with self._lock:
            return self._progress


class Heartbeat(threading.Thread):
    """Writes a running job's progress to its row, and stops the job when the row says so.

    A job is stopped by SIGTERM to the main thread, which wakes it from any wait. `runs_in_main` says that the job runs
    there, with a handler that raises KeyboardInterrupt; another job cannot be stopped from outside.
    """

    def __init__(self, context: JobContext, *, runs_in_main: bool) -> None:
        super().__init__(name="job", daemon=True)
        self._context, self._runs_in_main = context, runs_in_main
        self._ended, self._lock = threading.Event(), threading.Lock()
        self._written, self._written_at = JobProgress(), time.monotonic()
        self._asked = -ASK_AGAIN

    def run(self) -> None:
        with contextlib.suppress(PantryError), Database(self._context.paths.database) as database:
            jobs = Jobs(database, self._context.paths.job_logs)
            while not self._ended.wait(TICK):
                with contextlib.suppress(PantryError):  # a database that is held or a disk that is full, for now
                    self._beat(jobs)
            with contextlib.suppress(PantryError):
                self._write(jobs)

    def end(self) -> None:
        """Write the last progress and stop. No signal is sent after this."""
        with self._lock:
            self._ended.set()
        self.join()

    def _beat(self, jobs: Jobs) -> None:
        if jobs.state_of(self._context.job.id) in ("cancelling", None):
            self._ask_to_stop()
        self._write(jobs)  # last, for it may fail: a disk that is full keeps no job from being stopped

    def _write(self, jobs: Jobs) -> None:
        found, moment = self._context.now, time.monotonic()
        rate = _rate(self._written, found, moment - self._written_at)
        if found == replace(self._written, rate=None) and not rate:
            return
        self._written, self._written_at = replace(found, rate=rate), moment
        jobs.note(self._context.job.id, self._written)

    def _ask_to_stop(self) -> None:
        moment = time.monotonic()
        with self._lock:
            if self._ended.is_set() or not self._runs_in_main or moment - self._asked < ASK_AGAIN:
                return
            self._asked = moment
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _rate(before: JobProgress, found: JobProgress, seconds: float) -> float | None:
    """The smoothed rate after a look; None at the first look at a step, which may begin with much done already."""
    if (found.step, found.unit) != (before.step, before.unit) or found.done < before.done:
        return None
    newest = (found.done - before.done) / max(seconds, 1e-3)
    if before.rate is None:
        return newest or None
    smooth = SMOOTHING * newest + (1 - SMOOTHING) * before.rate
    return smooth if smooth > LEAST_RATE else None
