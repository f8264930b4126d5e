"""Doing what takes long beside the requests: queued jobs, each in a process of its own, and what the user approved.

All of it is rows, so that it goes on after the service was off or killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pantry.access.usage import FLUSH_EVERY
from pantry.core.errors import PantryError, storage_error
from pantry.core.faults import record_fault
from pantry.core.refs import ModelName
from pantry.engines.processes.guard import PARENT_VARIABLE
from pantry.operations.jobs.kind import KINDS
from pantry.operations.jobs.run import settle_lost
from pantry.service.session_store import SessionBook
from pantry.service.state import Gateway
from pantry.store.jobs import Job, JobError, Jobs
from pantry.store.requests import AppRequest, Requests

log = logging.getLogger("pantry.service")
POLL = 0.25  # seconds between two looks for jobs and approvals from outside
SETTLE_EVERY = 2.0  # seconds between two looks for jobs whose process was killed
EXPIRE_EVERY = 3600.0  # seconds between two looks for sessions that are too old
STOP_GRACE = 3.0  # seconds in which a job that is told to stop may save what it has


class JobRunner:
    """Finds queued jobs and approved requests and does them, each in a task of its own."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._requests = Requests(gateway.store.database)
        self.jobs = Jobs(gateway.store.database, gateway.paths.job_logs)
        self._doing: set[str] = set()
        self._running: dict[str, str] = {}
        """The kinds of the jobs that have a process here, by their ids."""
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Look at once."""
        self._woken.set()

    def start(
        self, kind: str, parameters: Mapping[str, Any], *, app: str | None = None, request: str | None = None
    ) -> Job:
        """Queue a job of the owner or of an app; what the same one asked for already, and is not done, is that job.

        Raises NotFoundError for an unknown kind.
        """
        known = None if request else self.jobs.like(kind, app, parameters)
        title = KINDS.get(kind).title(parameters)
        job = known or self.jobs.add(kind, title, parameters, app=app, request=request)
        self.wake()
        return job

    def job_of(self, request: AppRequest) -> Job | None:
        """The job that does what a request asks for: queued when it is approved. None for what takes no job."""
        found = self.jobs.of_request(request.id)
        if found is not None or request.kind != "download" or request.state != "approved":
            return found
        details = request.details
        parameters = {"model": details["model"], **({"url": details["url"]} if details.get("url") else {})}
        return self.start("pull", parameters, app=request.app, request=request.id)

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        next_settling = next_flush = next_expiry = loop.time()
        while True:
            try:
                if loop.time() >= next_settling:
                    next_settling = loop.time() + SETTLE_EVERY
                    settle_lost(self._gateway.store.database, self._gateway.paths)
                self._do_approved()
                self._start_queued()
                if loop.time() >= next_flush:
                    next_flush = loop.time() + FLUSH_EVERY
                    self._gateway.usage.flush()
                    self._gateway.speeds.flush()
                if loop.time() >= next_expiry:
                    next_expiry = loop.time() + EXPIRE_EVERY
                    SessionBook(self._gateway.store.database, self._gateway.settings).expire()
            except PantryError as error:
                log.warning("jobs wait: %s", error)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL):
                    await self._woken.wait()
            self._woken.clear()

    def _do_approved(self) -> None:
        for request in self._requests.list(state="approved"):
            if request.kind == "download":
                self._follow(request)
            elif request.id not in self._doing:
                self._doing.add(request.id)
                self._gateway.spawn(self._do(request))

    def _follow(self, request: AppRequest) -> None:
        """See that a download has its job, and close the request when that ended."""
        job = self.job_of(request)
        if job is None or not job.ended:
            return
        if job.state == "done":
            self._requests.finish(request.id, "done", "downloaded")
        else:
            self._requests.finish(request.id, "failed", str(job.error) if job.error else f"it was {job.state}")

    async def _do(self, request: AppRequest) -> None:
        try:
            outcome = await self._done(request)
            self._requests.finish(request.id, "done", outcome)
        except PantryError as error:
            self._requests.finish(request.id, "failed", str(error))
        except Exception as error:
            log.exception("a fault while doing request %s", request.id)
            told = record_fault(self._gateway.paths.fault_log, error, f"doing a request to {request.kind}")
            self._requests.finish(request.id, "failed", str(told))
        finally:
            self._doing.discard(request.id)

    async def _done(self, request: AppRequest) -> str:
        gateway, name = self._gateway, str(request.details.get("model", ""))
        if request.kind == "load":
            await gateway.pool.load(await gateway.model(name))
            return "loaded"
        if request.kind == "unload":
            return "unloaded" if await gateway.pool.unload(ModelName.parse(name)) else "was not loaded"
        return "granted"

    def _start_queued(self) -> None:
        """Start the queued jobs that there is room for, the oldest first."""
        counts = Counter(self._running.values())
        for job in self.jobs.list(state="queued"):
            if job.id in self._running:
                continue
            try:
                most = KINDS.get(job.kind).at_once
            except PantryError as error:  # of a package that was removed since
                self.jobs.finish(job, "failed", error=JobError.of(error))
                continue
            if counts[job.kind] < most:
                counts[job.kind] += 1
                self._running[job.id] = job.kind
                self._gateway.spawn(self._run(job))

    async def _run(self, job: Job) -> None:
        """Have a process run the job, and end it with the service; its row then says that it goes on later."""
        try:
            try:
                process = await self._process(job)
            except OSError as error:
                failure = JobError.of(storage_error("Starting a process for the job", error))
                self.jobs.finish(job, "failed", error=failure)
                return
            try:
                code = await process.wait()
            except asyncio.CancelledError:
                await _stop(process)
                with contextlib.suppress(PantryError):  # one that saved nothing in time was not killed by its work
                    self.jobs.requeue(self.jobs.get(job.id))
                raise
            left = self.jobs.list(state="queued") if code else []
            if job.id in {each.id for each in left}:
                message = f"Its process ended with the code {code} before it began."
                self.jobs.finish(job, "failed", error=JobError(PantryError.code, message, "See the service's log."))
            settle_lost(self._gateway.store.database, self._gateway.paths)
        except PantryError as error:
            log.warning("a job waits: %s", error)
        finally:
            del self._running[job.id]
            self.wake()

    async def _process(self, job: Job) -> Process:
        paths = self._gateway.paths
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "pantry.operations.jobs.process",
            *map(str, (paths.config, paths.data, paths.run, job.id)),
            stdin=DEVNULL,
            stdout=DEVNULL,
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
            cwd=paths.run,
            start_new_session=True,
        )


async def _stop(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_GRACE):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
