"""The HTTP application: the surfaces, the guard before them, and the one place where errors become responses."""

from __future__ import annotations

import logging

from aiohttp import web

from pantry.core.errors import BusyError, NotFoundError, PantryError, UnauthorisedError, UsageError, did_you_mean
from pantry.core.faults import record_fault
from pantry.service import health
from pantry.service.api import openai, windowai
from pantry.service.api._auto import tell_choice
from pantry.service.guard import Handler, allow_origin, guard
from pantry.service.http import error_object
from pantry.service.models import DESK, Desk
from pantry.service.native import http as native
from pantry.service.native.calls import failure
from pantry.service.state import GATEWAY, Gateway
from pantry.service.web import approvals, page
from pantry.service.web import loaded as admin

log = logging.getLogger("pantry.service")
SURFACES = (health, openai, native, windowai, admin, approvals, page)
_CLIENT_LEFT = 499
"""The status counted for a client that left before its answer (nginx's number; nobody is there to read it)."""


def build_app(gateway: Gateway, desk: Desk) -> web.Application:
    """The application around one gateway and its desk."""
    app = web.Application(middlewares=[errors, guard], client_max_size=gateway.settings.max_body)
    app[GATEWAY] = gateway
    app[DESK] = desk
    app[approvals.LINES] = {}
    for surface in SURFACES:
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
    return error_response(told, native=request.path == native.PATH)


def error_response(error: PantryError, *, native: bool = False) -> web.Response:
    """An error as a JSON response with its status and headers; a reply object where the native API was called."""
    headers = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(error.retry_after)
    if isinstance(error, UnauthorisedError):
        headers["WWW-Authenticate"] = "Bearer"
    body = failure(error) if native else {"error": error_object(error)}
    return web.json_response(body, status=error.status, headers=headers)


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
