"""What the owner's page and command line ask of jobs: the list, one, its log, its end. For the owner and superusers."""

from __future__ import annotations

from aiohttp import web

from pantry.core.errors import UsageError
from pantry.service.context import CONTEXT
from pantry.service.surface import Surface
from pantry.store.jobs import Jobs

routes = web.RouteTableDef()
surface = Surface(routes)


@routes.get("/admin/jobs")
async def jobs(request: web.Request) -> web.Response:
    """The jobs, oldest first: those that run, wait, or ended lately."""
    return web.json_response({"jobs": [job.to_json() for job in _jobs(request).list()]})


@routes.get("/admin/jobs/{id}")
async def job(request: web.Request) -> web.Response:
    """One job: state, step, progress, rate, time left, result or error."""
    return web.json_response(_jobs(request).find(request.match_info["id"]).to_json())


@routes.post("/admin/jobs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Stop a job; one that runs stops soon after."""
    found = _jobs(request)
    return web.json_response(found.cancel(found.find(request.match_info["id"]).id).to_json())


@routes.get("/admin/jobs/{id}/log")
async def log(request: web.Request) -> web.Response:
    """A job's log from byte `?offset=` on, and the offset to go on from."""
    offset = request.query.get("offset", "0")
    if not (offset.isascii() and offset.isdecimal() and len(offset) < 16):
        raise UsageError(f"offset is a whole number from 0 up; got {offset[:60]!r}.")
    found = _jobs(request)
    text, following = found.log(found.find(request.match_info["id"]).id).read(int(offset))
    return web.json_response({"text": text, "offset": following})


def _jobs(request: web.Request) -> Jobs:
    return request.app[CONTEXT].runner.jobs
