"""What the owner's page asks: the apps, what they ask for, and the owner's answers. For the owner and superusers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from pantry.core.errors import UsageError
from pantry.operations.requests import Limits, approve, describe, refuse
from pantry.service._functions_apps import request_object
from pantry.service.desk import DESK
from pantry.service.gateway import GATEWAY, read_json
from pantry.store.apps import Apps
from pantry.store.requests import AppRequest, Requests

routes = web.RouteTableDef()


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


@routes.get("/admin/requests")
async def requests(request: web.Request) -> web.Response:
    """What waits for an answer; with `?all=1` also what was answered."""
    everything = request.query.get("all") == "1"
    found = Requests(request.app[GATEWAY].store.database).list(state=None if everything else "pending")
    return web.json_response({"requests": [_request_object(request, each) for each in found]})


@routes.post("/admin/requests/{id}/approve")
async def say_yes(request: web.Request) -> web.Response:
    """Approve: `{"always": false, "models": ["qwen3*"], "days": 30, "tokens_per_day": 20000}`, all optional."""
    gateway, desk = request.app[GATEWAY], request.app[DESK]
    limits = _limits(await read_json(request, gateway.settings) if request.can_read_body else {})
    found = Requests(gateway.store.database).get(request.match_info["id"])
    decided = approve(gateway.store.database, found, limits)
    desk.fulfiller.poke()
    return web.json_response(_request_object(request, decided))


@routes.post("/admin/requests/{id}/refuse")
async def say_no(request: web.Request) -> web.Response:
    """Refuse."""
    database = request.app[GATEWAY].store.database
    decided = refuse(database, Requests(database).get(request.match_info["id"]))
    return web.json_response(_request_object(request, decided))


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
    models = body.get("models", [])
    if not isinstance(models, list) or not all(isinstance(each, str) for each in models):
        raise UsageError("models of an approval is a list of texts.")
    return Limits(body.get("always", False), tuple(models), body.get("days"), _whole(body.get("tokens_per_day")))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _request_object(request: web.Request, found: AppRequest) -> dict[str, Any]:
    gateway = request.app[GATEWAY]
    line = describe(found, gateway.store, gateway.paths)
    told = request_object(request.app[DESK], found)
    return {**told, "app_name": found.app_name, "reason": found.reason, "description": line}
