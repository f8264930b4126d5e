"""The HTTP application: the surfaces, the guard before them, and the one place where errors become responses."""

from __future__ import annotations

import logging

from aiohttp import web

from pantry.core.errors import BusyError, NotFoundError, PantryError, UnauthorisedError, UsageError, did_you_mean
from pantry.core.faults import record_fault
from pantry.service import health
from pantry.service.api._auto import tell_choice
from pantry.service.context import CONTEXT, ServiceContext
from pantry.service.guard import Handler, allow_origin, guard
from pantry.service.native import http as native
from pantry.service.state import GATEWAY
from pantry.service.surface import APIS, PAGE_VIEWS, SURFACES, Surface, paths_of, surface_of, surfaces_of
from pantry.service.web import approvals

log = logging.getLogger("pantry.service")
_CLIENT_LEFT = 499
"""The status counted for a client that left before its answer (nginx's number; nobody is there to read it)."""


def main_surfaces() -> list[Surface]:
    """Every surface of the main port."""
    return [health.surface, native.surface, *surfaces_of(APIS, PAGE_VIEWS)]


def build_app(service: ServiceContext) -> web.Application:
    """The application around one service. Raises ConflictError when two surfaces answer at one path."""
    app = web.Application(middlewares=[errors, guard], client_max_size=service.gateway.settings.max_body)
    app[GATEWAY], app[CONTEXT], app[approvals.LINES] = service.gateway, service, {}
    surfaces = main_surfaces()
    app[SURFACES] = paths_of(surfaces)
    for surface in surfaces:
        app.router.add_routes(surface.routes)
    app.on_response_prepare.append(allow_origin)
    app.on_response_prepare.append(tell_choice)
    return app


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error into a JSON response and count the request."""
    status = _CLIENT_LEFT
    try:
        response = await _respond(request, handler)
        status = response.status
        return response
    finally:
        resource = request.match_info.route.resource
        route = resource.canonical if resource else "unknown"
        request.app[GATEWAY].metrics.requests.labels(route, str(status)).inc()


async def _respond(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except PantryError as error:
        told = error
    except web.HTTPException as error:
        told = _routing_error(request, error)
    except ConnectionResetError:
        log.debug("the client of %s left", request.path)
        return web.Response(status=_CLIENT_LEFT)
    except Exception as error:
        log.exception("a fault while handling %s %s", request.method, request.path)
        fault_log = request.app[GATEWAY].paths.fault_log
        told = record_fault(fault_log, error, f"handling {request.method} {request.path!r}")
    return error_response(told, surface_of(request))


def error_response(error: PantryError, surface: Surface) -> web.Response:
    """An error as a JSON response with its status and headers, in the form of the surface that was called."""
    headers = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, UnauthorisedError):
        headers["WWW-Authenticate"] = "Bearer"
    return web.json_response(surface.error_body(error), status=error.status, headers=headers)


def _routing_error(request: web.Request, error: web.HTTPException) -> PantryError:
    if error.status == 404:
        known = {route.resource.canonical for route in request.app.router.routes() if route.resource}
        return NotFoundError(f"There is no route {request.path!r}.", hint=did_you_mean(request.path, known))
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        wrong = UsageError(f"{request.path} does not answer {error.method}.", hint=f"Allowed: {allowed}.")
        wrong.status = 405
        return wrong
    return UsageError(error.reason)
