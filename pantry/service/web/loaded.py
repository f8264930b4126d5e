"""What the owner's command line asks: what is loaded, load, unload."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from aiohttp import web

from pantry.core.errors import ServiceUnavailableError, UsageError
from pantry.core.refs import ModelName
from pantry.service.http import read_json
from pantry.service.records import loaded_object
from pantry.service.state import GATEWAY, Gateway
from pantry.service.surface import Surface

routes = web.RouteTableDef()
surface = Surface(routes)


@routes.get("/admin/service")
async def service(request: web.Request) -> web.Response:
    """The service itself: process, addresses, version, start."""
    gateway = request.app[GATEWAY]
    if gateway.info is None or gateway.stopping.is_set():
        raise ServiceUnavailableError("The service is starting or stopping.")
    return web.json_response(asdict(gateway.info))


@routes.get("/admin/loaded")
async def loaded(request: web.Request) -> web.Response:
    """The loaded models with their worker, memory and time left."""
    gateway = request.app[GATEWAY]
    rows = [loaded_object(gateway, entry) for entry in gateway.pool.entries()]
    return web.json_response({"loaded": rows, "budget": gateway.pool.budget})


@routes.post("/admin/load")
async def load(request: web.Request) -> web.Response:
    """Load a model, `{"model": NAME, "pin": true}` for good."""
    gateway = request.app[GATEWAY]
    name, body = await _named(request, gateway)
    entry = await gateway.pool.load(await gateway.model(str(name)), pin=bool(body.get("pin")))
    return web.json_response(loaded_object(gateway, entry))


@routes.post("/admin/unload")
async def unload(request: web.Request) -> web.Response:
    """Unload a model, `{"model": NAME}`."""
    gateway = request.app[GATEWAY]
    name, _ = await _named(request, gateway)
    return web.json_response({"model": str(name), "unloaded": await gateway.pool.unload(name)})


async def _named(request: web.Request, gateway: Gateway) -> tuple[ModelName, dict[str, Any]]:
    body = await read_json(request, gateway.settings)
    if not isinstance(body, dict) or not isinstance(body.get("model"), str):
        raise UsageError('Expected a JSON object like {"model": "starter"}.')
    return ModelName.parse(body["model"]), body
