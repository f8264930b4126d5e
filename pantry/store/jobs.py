"""Jobs: long work as rows, which any process of this home may look at, cancel, and take up again."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pantry.core.errors import ConflictError, NotFoundError, PantryError
from pantry.core.processes import process_mark
from pantry.core.units import printable, without_secrets
from pantry.store.database import Database, now
from pantry.store.job_log import JobLog

State = Literal["queued", "running", "cancelling", "done", "failed", "cancelled", "interrupted"]
KEPT = 100  # ended jobs that are kept for each owner
KEPT_DAYS = 30.0  # of which none is older than this
MAX_TITLE = 200  # characters of a title that are kept
SHORTEST_PREFIX = 4  # characters of an id that name a job


@dataclass(frozen=True)
class JobProgress:
    """How far the step at hand is. `total` is None where nobody knows it, `rate` is in units a second."""

    step: str = ""
    done: int = 0
    total: int | None = None
    unit: str = ""
    rate: float | None = None

    @property
    def left(self) -> float | None:
        """Seconds until the step is done, at the rate of late; None where that cannot be told."""
        if self.total is None or not self.rate:
            return None
        return max(0.0, self.total - self.done) / self.rate


@dataclass(frozen=True)
class JobError:
    """Why a job ended without its result, as an error of Pantry says it."""

    code: str
    message: str
    hint: str | None = None

    @classmethod
    def of(cls, error: PantryError) -> JobError:
        return cls(error.code, error.message, error.hint)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Job:
    """One job. Without an app it is the owner's; `foreground` ones belong to a command at a terminal.

    States: queued, running, cancelling (running, and asked to stop), done, failed, cancelled, interrupted (its
    process ended before it did, and it does not go on by itself). `runs` counts the processes that ran it, `kills`
    those that were killed at it.
    """

    id: str
    kind: str
    title: str
    parameters: Mapping[str, Any] = field(hash=False)
    app: str | None
    request: str | None
    foreground: bool
    state: State
    progress: JobProgress
    process: int | None
    process_mark: float | None
    runs: int
    kills: int
    result: Mapping[str, Any] | None = field(hash=False)
    error: JobError | None
    created_at: str
    started_at: str | None
    updated_at: str
    ended_at: str | None

    @property
    def ended(self) -> bool:
        return self.state in ("done", "failed", "cancelled", "interrupted")

    @property
    def is_lost(self) -> bool:
        """Whether it should be running, and its process is no more."""
        if self.state not in ("running", "cancelling") or self.process is None:
            return False
        return process_mark(self.process) != self.process_mark

    def to_json(self) -> dict[str, Any]:
        """The job as the API and `--json` give it; `rate` in units a second, `left` in seconds.

        Addresses are without the parts that may be secret, and what is no text in paths is replaced by `?`.
        """
        progress = self.progress
        return {
            "id": self.id,
            "kind": self.kind,
            "title": self.title,
            "parameters": _shown(self.parameters),
            "app": self.app,
            "request": self.request,
            "state": self.state,
            "ended": self.ended,
            "progress": {**progress.__dict__, "left": progress.left},
            "result": _shown(self.result),
            "error": _shown(self.error.__dict__) if self.error else None,
            "process": None if self.ended else self.process,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "updated_at": self.updated_at,
            "ended_at": self.ended_at,
        }


class Jobs:
    """The jobs of a home, and their logs in the folder `logs`."""

    def __init__(self, database: Database, logs: Path) -> None:
        self._database, self._logs = database, logs

    def add(
        self,
        kind: str,
        title: str,
        parameters: Mapping[str, Any],
        *,
        app: str | None = None,
        request: str | None = None,
        foreground: bool = False,
    ) -> Job:
        """Write down a job: queued, or in the foreground running in this process; and forget old ended ones."""
        id, moment = str(uuid.uuid4()), now()
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO jobs (id, kind, title, parameters, app, request, foreground, state, created_at,"
                " updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?)",
                (
                    id,
                    kind,
                    printable(title)[:MAX_TITLE],
                    json.dumps(parameters),
                    app,
                    request,
                    int(foreground),
                    moment,
                    moment,
                ),
            )
            if foreground:
                self.claim(id)
            self._forget(app)
        self._clean_logs()
        return self.get(id)

    def get(self, id: str) -> Job:
        """The job with this id. Raises NotFoundError."""
        row = self._database.row("SELECT * FROM jobs WHERE id = ?", (id,))
        if row is None:
            raise NotFoundError("There is no such job.", hint="See: pantry jobs")
        return _job(row)

    def find(self, text: str) -> Job:
        """The job whose id is `text` or starts with it. Raises NotFoundError, also when several fit."""
        fits = [each for each in self.list() if each.id == text]
        if not fits and len(text) >= SHORTEST_PREFIX:
            fits = [each for each in self.list() if each.id.startswith(text)]
        if len(fits) != 1:
            found = f"{len(fits)} jobs start with" if fits else "There is no job"
            raise NotFoundError(f"{found} {text[:80]!r}.", hint="See: pantry jobs --all")
        return fits[0]

    def lost(self) -> list[Job]:
        """Jobs whose process ended before they did."""
        rows = self._database.rows("SELECT * FROM jobs WHERE state IN ('running', 'cancelling')")
        return [job for job in map(_job, rows) if job.is_lost]

    def list(self, *, app: str | None = None, state: State | None = None) -> list[Job]:
        """Jobs, oldest first, of one app or state where given."""
        rows = self._database.rows(
            "SELECT * FROM jobs WHERE (?1 IS NULL OR app = ?1) AND (?2 IS NULL OR state = ?2)"
            " ORDER BY created_at, rowid",
            (app, state),
        )
        return [_job(row) for row in rows]

    def like(self, kind: str, app: str | None, parameters: Mapping[str, Any]) -> Job | None:
        """The job of that owner for the very same thing that is queued or runs in the background."""
        row = self._database.row(
            "SELECT * FROM jobs WHERE kind = ? AND app IS ? AND parameters = ? AND NOT foreground"
            " AND state IN ('queued', 'running')",
            (kind, app, json.dumps(parameters)),
        )
        return _job(row) if row else None

    def of_request(self, request: str) -> Job | None:
        """The job that does what an app asked for in a request, if there is one."""
        row = self._database.row("SELECT * FROM jobs WHERE request = ?", (request,))
        return _job(row) if row else None

    def claim(self, id: str) -> bool:
        """Note that this process runs a queued job; False when it is queued no more."""
        changed = self._database.execute(
            "UPDATE jobs SET state = 'running', process = ?, process_mark = ?, runs = runs + 1, step = '', done = 0,"
            " total = NULL, rate = NULL, started_at = coalesce(started_at, ?), updated_at = ?"
            " WHERE id = ? AND state = 'queued'",
            (os.getpid(), process_mark(), now(), now(), id),
        )
        return bool(changed)

    def note(self, id: str, progress: JobProgress) -> None:
        """Write down how far a running job is."""
        self._database.execute(
            "UPDATE jobs SET step = ?, done = ?, total = ?, unit = ?, rate = ?, updated_at = ?"
            " WHERE id = ? AND state IN ('running', 'cancelling')",
            (progress.step, progress.done, progress.total, progress.unit, progress.rate, now(), id),
        )

    def state_of(self, id: str) -> State | None:
        """The state of a job; None when it is forgotten, as the jobs of a removed app are."""
        row = self._database.row("SELECT state FROM jobs WHERE id = ?", (id,))
        return row["state"] if row else None

    def cancel(self, id: str) -> Job:
        """End a queued job; ask a running one to stop, which it does soon. Raises NotFoundError, ConflictError."""
        with self._database.transaction():
            job = self.get(id)
            if job.ended:
                raise ConflictError(f"This job has ended already ({job.state}).")
            if job.state == "queued" or job.is_lost:
                self._end(job, "cancelled", None, None)
            else:
                self._database.execute("UPDATE jobs SET state = 'cancelling', updated_at = ? WHERE id = ?", (now(), id))
        return self.get(id)

    def finish(
        self, job: Job, state: State, *, result: Mapping[str, Any] | None = None, error: JobError | None = None
    ) -> bool:
        """Record how a job ended; False when it has ended already, or another process runs it."""
        return self._end(job, state, result, error)

    def requeue(self, job: Job, *, killed: bool = False) -> bool:
        """Let a job whose process was killed, or ends now, be taken up again; False as for `finish`."""
        changed = self._database.execute(
            "UPDATE jobs SET state = 'queued', process = NULL, process_mark = NULL, rate = NULL, kills = kills + ?,"
            " updated_at = ? WHERE id = ? AND state = 'running' AND process IS ?",
            (int(killed), now(), job.id, job.process),
        )
        return bool(changed)

    def log(self, id: str) -> JobLog:
        """The log of a job."""
        return JobLog(self._logs / f"{id}.log")

    def _end(self, job: Job, state: State, result: Mapping[str, Any] | None, error: JobError | None) -> bool:
        changed = self._database.execute(
            "UPDATE jobs SET state = ?, result = ?, error = ?, rate = NULL, updated_at = ?, ended_at = ?"
            " WHERE id = ? AND ended_at IS NULL AND process IS ?",
            (
                state,
                json.dumps(result, default=str) if result is not None else None,
                json.dumps(error.__dict__) if error else None,
                now(),
                now(),
                job.id,
                job.process,
            ),
        )
        return bool(changed)

    def _forget(self, app: str | None) -> None:
        """Forget the ended jobs of an owner beyond the newest, and all that are old."""
        oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=KEPT_DAYS)
        self._database.execute(
            "DELETE FROM jobs WHERE app IS ?1 AND ended_at IS NOT NULL AND rowid NOT IN (SELECT rowid FROM jobs"
            " WHERE app IS ?1 AND ended_at IS NOT NULL ORDER BY ended_at DESC, rowid DESC LIMIT ?2)",
            (app, KEPT),
        )
        self._database.execute("DELETE FROM jobs WHERE ended_at < ?", (oldest.isoformat(timespec="seconds"),))

    def _clean_logs(self) -> None:
        """Delete the logs of jobs that are forgotten."""
        files = list(self._logs.glob("*.log"))  # looked at first: a job of that moment has a row by then
        known = {row["id"] for row in self._database.rows("SELECT id FROM jobs")}
        for file in files:
            if file.stem not in known:
                with contextlib.suppress(OSError):  # a log that stays is no reason not to begin a job
                    file.unlink()


def _shown(value: object) -> object:
    if isinstance(value, str):
        return without_secrets(value).encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {name: _shown(each) for name, each in value.items()}
    return [_shown(each) for each in value] if isinstance(value, list) else value


def _job(row: sqlite3.Row) -> Job:
    return Job(
        row["id"], row["kind"], row["title"], json.loads(row["parameters"]), row["app"], row["request"],
        bool(row["foreground"]), row["state"],
        JobProgress(row["step"], row["done"], row["total"], row["unit"], row["rate"]),
        row["process"], row["process_mark"], row["runs"], row["kills"],
        json.loads(row["result"]) if row["result"] else None,
        JobError(**json.loads(row["error"])) if row["error"] else None,
        row["created_at"], row["started_at"], row["updated_at"], row["ended_at"],
    )  # fmt: skip
