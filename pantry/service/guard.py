"""Who may call: the owner over the Unix socket, holders of a key over TCP, and no web page that was not allowed."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from pantry.client.connection import peer_uid
from pantry.core.errors import ForbiddenError, UnauthorisedError
from pantry.core.permissions import NOBODY, OWNER, Action, Caller
from pantry.core.settings import Settings
from pantry.service.browser import is_logged_in
from pantry.service.http import CALLER
from pantry.service.origins import may_read, page_may_call
from pantry.service.state import GATEWAY, Gateway
from pantry.service.surface import surface_of
from pantry.service.web.page import is_open
from pantry.store.keys import PREFIX

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
OPEN_PATHS = frozenset({"/healthz", "/readyz"})
"""Routes that need no key, beside those of the owner's page (pantry/service/web/page.py)."""
OWNER_PATHS = "/admin/"
"""Routes that start like this are for the owner and superusers."""
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through or raise ForbiddenError or UnauthorisedError."""
    gateway = request.app[GATEWAY]
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client left")
    sock = transport.get_extra_info("socket")
    if sock.family == socket.AF_UNIX:
        check_peer(sock)
    else:
        origin, host = request.headers.get("Origin"), request.headers.get("Host")
        check_host(host, gateway.settings, str(transport.get_extra_info("sockname")[0]))
        if not (surface_of(request).for_pages and page_may_call(gateway, origin)):
            check_origin(origin, host, gateway.settings)
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            return web.Response(status=204)
    if request.path not in OPEN_PATHS and not is_open(request.path):
        request[CALLER] = caller = _caller(request, gateway, trusted=sock.family == socket.AF_UNIX)
        if request.path.startswith(OWNER_PATHS):
            gateway.permit(caller, Action.ADMINISTER)
    return await handler(request)


def _caller(request: web.Request, gateway: Gateway, *, trusted: bool) -> Caller:
    """Who calls. A key always decides; without one the Unix socket is the owner's, and so is TCP when keys are off."""
    header = request.headers.get("Authorization")
    surface = surface_of(request)
    if header is None and surface.key_header and (key := request.headers.get(surface.key_header)):
        header = f"Bearer {key}"
    trusted = trusted or not gateway.settings.require_key
    if trusted and not (header or "").partition(" ")[2].strip().startswith(PREFIX):
        return OWNER
    if header is None and not surface.needs_key:
        return NOBODY
    if header is None and request.path.startswith(OWNER_PATHS) and is_logged_in(request, gateway):
        return OWNER
    return gateway.recognise(bearer(header))


async def allow_origin(request: web.Request, response: web.StreamResponse) -> None:
    """Tell the browser that an allowed origin may read the answer."""
    origin = request.headers.get("Origin")
    if origin and may_read(request.app[GATEWAY], origin, surface_of(request)):
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Headers"] = (
            "Authorization, Content-Type, X-API-KEY, HTTP-Referer, X-WINDOWAI-TITLE"
        )
        response.headers["Access-Control-Allow-Methods"] = "GET, POST"
        response.headers["Vary"] = "Origin"


def bearer(header: str | None) -> str:
    """The key in an Authorization header. Raises UnauthorisedError when there is none."""
    scheme, _, key = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise UnauthorisedError(
            "A key is needed: send it as 'Authorization: Bearer <key>'.", hint="pantry env prints the key to use."
        )
    return key.strip()


def check_host(header: str | None, settings: Settings, listening_on: str) -> None:
    """Refuse a Host that is not ours: a page whose name was pointed at this machine (DNS rebinding) sends its own."""
    name = hostname(header)
    if name in _LOOPBACK_NAMES or name == settings.host or name in settings.allowed_hosts:
        return
    if _is_address(name) and name == listening_on:
        return
    raise ForbiddenError(
        f"The Host {header!r} is not one of this service.", hint="Allow it with the setting allowed_hosts."
    )


def check_origin(origin: str | None, host: str | None, settings: Settings) -> None:
    """Refuse calls from web pages of other origins. Programs send no Origin."""
    if origin is None or origin in settings.allowed_origins:
        return
    scheme, _, rest = origin.partition("://")
    if host and rest == host and scheme in ("http", "https"):
        return
    raise ForbiddenError(
        f"Pages of {origin!r} may not call this service.", hint="Allow them with the setting allowed_origins."
    )


def hostname(header: str | None) -> str:
    """The host name in a Host header, without port and brackets, lower case; empty when it makes no sense."""
    try:
        return (urlsplit(f"//{header or ''}").hostname or "").lower()
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def check_peer(sock: Any) -> None:
    """Only the owner may use the Unix socket. Its folder is closed to others; this holds when that is changed, too."""
    with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
        uid = peer_uid(duplicate)
    if uid not in (None, os.getuid()):
        raise ForbiddenError("This socket belongs to another user.", hint="Use the TCP address with a key.")
