"""Is the service alive, does it take requests, and what does it count."""

from __future__ import annotations

from aiohttp import web

from pantry import __version__
from pantry.core.errors import ServiceUnavailableError
from pantry.core.permissions import Action
from pantry.service.http import caller_of
from pantry.service.state import GATEWAY
from pantry.service.surface import Surface

routes = web.RouteTableDef()
surface = Surface(routes)


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:
    """The process runs and its event loop turns."""
    return web.json_response({"status": "ok", "service": "pantry", "version": __version__})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """Requests are taken: the state can be read and the service is not stopping."""
    gateway = request.app[GATEWAY]
    if gateway.stopping.is_set():
        raise ServiceUnavailableError("The service is stopping.")
    gateway.store.database.row("SELECT 1")
    return web.json_response({"status": "ready"})


@routes.get("/metrics")
async def metrics(request: web.Request) -> web.Response:
    """Prometheus text."""
    gateway = request.app[GATEWAY]
    gateway.permit(caller_of(request), Action.VIEW)
    body = gateway.metrics.text(gateway.pool)
    return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})
