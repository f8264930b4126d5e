"""What the owner's page asks: the apps, what they ask for, and the owner's answers. For the owner and superusers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from pantry.access.requests import Limits, approve, describe, refuse
from pantry.core.errors import UsageError
from pantry.core.permissions import Permission
from pantry.service.context import CONTEXT
from pantry.service.http import read_json
from pantry.service.records import loaded_object, request_object
from pantry.service.state import GATEWAY
from pantry.service.surface import Surface
from pantry.store.apps import Apps
from pantry.store.requests import AppRequest, Requests

routes = web.RouteTableDef()
surface = Surface(routes)
LINES = web.AppKey("lines", dict[str, str])
"""The descriptions of the requests last shown, by id: the page asks often, and the catalogue takes milliseconds."""
ANSWERED = 12  # answered requests that the page shows
MAX_TOKENS = 10**15  # a day, in a limit
MAX_PATTERNS, MAX_PATTERN = 100, 200  # of an approval's model names, and characters in each


@routes.get("/admin/overview")
async def overview(request: web.Request) -> web.Response:
    """All that the owner's page shows: requests, apps with their sessions, loaded models, the service."""
    gateway, service = request.app[GATEWAY], request.app[CONTEXT]
    database = gateway.store.database
    found, known = Requests(database), request.app[LINES]
    now = [*found.list(state="pending"), *found.list(state="approved")]
    lines = {each.id: known.get(each.id) or _line(request, each) for each in now}
    known.clear()
    known.update(lines)
    totals = service.sessions.book.totals()
    return web.json_response(
        {
            "service": asdict(gateway.info) if gateway.info else None,
            "requests": [_request_object(request, each, lines[each.id]) for each in now],
            "answered": [_request_object(request, each, describe(each)) for each in found.answered(ANSWERED)],
            "apps": [app.to_json() | _sessions_object(totals.get(app.id)) for app in Apps(database).list()],
            "own": _sessions_object(totals.get(None)),
            "loaded": [loaded_object(gateway, entry) for entry in gateway.pool.entries()],
            "budget": gateway.pool.budget,
        }
    )


@routes.get("/admin/apps")
async def apps(request: web.Request) -> web.Response:
    """The apps with their permissions."""
    found = Apps(request.app[GATEWAY].store.database).list()
    return web.json_response({"apps": [app.to_json() for app in found]})


@routes.delete("/admin/apps/{id}")
async def remove(request: web.Request) -> web.Response:
    """Forget an app with its key, requests and sessions."""
    found = Apps(request.app[GATEWAY].store.database)
    app = found.get(request.match_info["id"])
    return web.json_response({"app": app.id, "removed": found.remove(app.id)})


@routes.post("/admin/apps/{id}/withdraw")
async def withdraw(request: web.Request) -> web.Response:
    """Take permissions away: `{"permissions": ["load"]}`."""
    gateway = request.app[GATEWAY]
    apps, body = Apps(gateway.store.database), await read_json(request, gateway.settings)
    names = body.get("permissions") if isinstance(body, dict) else None
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise UsageError('Expected a JSON object like {"permissions": ["load"]}.')
    app = apps.get(request.match_info["id"])
    apps.withdraw(app.id, [Permission.parse(name) for name in names])
    return web.json_response(apps.get(app.id).to_json())


@routes.post("/admin/apps/{id}/limit")
async def limit(request: web.Request) -> web.Response:
    """Limit the tokens an app may use a day, `{"tokens_per_day": 20000}`; null lifts the limit."""
    gateway = request.app[GATEWAY]
    apps, body = Apps(gateway.store.database), await read_json(request, gateway.settings)
    if not isinstance(body, dict) or set(body) != {"tokens_per_day"}:
        raise UsageError('Expected a JSON object like {"tokens_per_day": 20000}.')
    app, tokens = apps.get(request.match_info["id"]), _limits(body).tokens_per_day
    apps.limit_tokens(app.id, tokens)
    return web.json_response(apps.get(app.id).to_json())


@routes.delete("/admin/apps/{id}/sessions")
async def forget_sessions(request: web.Request) -> web.Response:
    """Stop and delete the sessions of an app."""
    service = request.app[CONTEXT]
    caller = Apps(request.app[GATEWAY].store.database).get(request.match_info["id"]).caller()
    found = service.sessions.book.of_app(caller.app)
    for session in found:
        service.sessions.delete(caller, session.id)
    return web.json_response({"app": caller.app, "deleted": len(found)})


@routes.get("/admin/requests")
async def requests(request: web.Request) -> web.Response:
    """What waits for an answer; with `?all=1` also what was answered."""
    everything = request.query.get("all") == "1"
    found = Requests(request.app[GATEWAY].store.database).list(state=None if everything else "pending")
    return web.json_response({"requests": [_request_object(request, each, _line(request, each)) for each in found]})


@routes.post("/admin/requests/{id}/approve")
async def say_yes(request: web.Request) -> web.Response:
    """Approve: `{"always": false, "models": ["qwen3*"], "days": 30, "tokens_per_day": 20000}`, all optional."""
    gateway, service = request.app[GATEWAY], request.app[CONTEXT]
    limits = _limits(await read_json(request, gateway.settings) if request.can_read_body else {})
    found = Requests(gateway.store.database).get(request.match_info["id"])
    decided = approve(gateway.store.database, found, limits)
    service.runner.job_of(decided)
    service.runner.wake()
    return web.json_response(_request_object(request, decided, _line(request, decided)))


@routes.post("/admin/requests/{id}/refuse")
async def say_no(request: web.Request) -> web.Response:
    """Refuse."""
    database = request.app[GATEWAY].store.database
    decided = refuse(database, Requests(database).get(request.match_info["id"]))
    return web.json_response(_request_object(request, decided, _line(request, decided)))


def _limits(body: Any) -> Limits:
    """The limits of an approval. Raises UsageError that names what does not fit."""
    known = ("always", "models", "days", "tokens_per_day")
    if not isinstance(body, dict) or any(name not in known for name in body):
        raise UsageError(f"An approval is an object with {', '.join(known)}, all optional.")
    for name in ("days", "tokens_per_day"):
        value = body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
            raise UsageError(f"{name} of an approval is a number from 0 up; got {str(value)[:60]!r}.")
    if not isinstance(body.get("always", False), bool):
        raise UsageError("always of an approval is true or false.")
    if (body.get("tokens_per_day") or 0) > MAX_TOKENS:
        raise UsageError(f"tokens_per_day of an approval is at most {MAX_TOKENS}.")
    models = body.get("models", [])
    if not isinstance(models, list) or not all(isinstance(each, str) and each for each in models):
        raise UsageError("models of an approval is a list of names, like qwen3*.")
    if len(models) > MAX_PATTERNS or any(len(each) > MAX_PATTERN for each in models):
        raise UsageError(f"models of an approval is at most {MAX_PATTERNS} names of {MAX_PATTERN} characters.")
    return Limits(body.get("always", False), tuple(models), body.get("days"), _whole(body.get("tokens_per_day")))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _line(request: web.Request, found: AppRequest) -> str:
    gateway = request.app[GATEWAY]
    return describe(found, gateway.store, gateway.paths)


def _request_object(request: web.Request, found: AppRequest, line: str) -> dict[str, Any]:
    told = request_object(request.app[CONTEXT], found)
    return {**told, "app_name": found.app_name, "reason": found.reason, "description": line}


def _sessions_object(total: tuple[int, int] | None) -> dict[str, Any]:
    count, size = total or (0, 0)
    return {"sessions": {"count": count, "size": size}}
