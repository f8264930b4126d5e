"""Functions about jobs: an app sees and cancels its own, the owner all."""

from __future__ import annotations

from pantry.core.errors import NotFoundError, UnauthorisedError
from pantry.core.permissions import Caller
from pantry.service.context import ServiceContext
from pantry.service.native.calls import Parameters, Value, function, wait_for
from pantry.service.records import job_object
from pantry.store.jobs import Job


@function()
def list_jobs(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """The jobs of the calling app, oldest first; the owner sees those of all."""
    _known(caller)
    return {"jobs": [_object(caller, job) for job in service.runner.jobs.list(app=caller.app)]}


@function("job")
def get_job(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """One job of the caller's: its state, step, progress, rate and time left, and its result or error."""
    return _object(caller, _own(service, caller, given))


@function("job", "timeout")
async def wait_job(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """As get_job, but answers only when the job has ended or `timeout` seconds (30) are over."""
    return _object(caller, await wait_for(lambda: _own(service, caller, given), lambda job: job.ended, given))


@function("job")
def cancel_job(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Stop a job of the caller's. Gives the job; one that runs stops soon after."""
    return _object(caller, service.runner.jobs.cancel(_own(service, caller, given).id))


def _own(service: ServiceContext, caller: Caller, given: Parameters) -> Job:
    """A job that the caller may see. Raises NotFoundError, also for that of somebody else."""
    _known(caller)
    job = service.runner.jobs.get(given.text("job"))
    if caller.kind != "owner" and job.app != caller.app:
        raise NotFoundError("There is no such job.")
    return job


def _known(caller: Caller) -> None:
    if caller.kind == "nobody":
        raise UnauthorisedError("A key is needed for this.", hint="Register with the function register_app.")


def _object(caller: Caller, job: Job) -> Value:
    return job_object(job, owner=caller.kind == "owner")
