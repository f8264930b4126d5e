"""Whether a request comes from the owner's page in a browser that is logged in."""

from __future__ import annotations

import os

from aiohttp import web

from pantry.client.tcp_owners import user_at
from pantry.core.errors import ForbiddenError
from pantry.service.state import Gateway

TOKEN_HEADER = "X-Pantry-Page"  # noqa: S105 - the name of a header


def is_logged_in(request: web.Request, gateway: Gateway) -> bool:
    """Whether a request comes from the page itself, in a browser that is logged in.

    Cookie and token must belong together, and the browser must say that the page is of this very origin: other ports
    of the same host are the same site, so the cookie's SameSite is not enough.
    """
    if request.headers.get("Sec-Fetch-Site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("Origin")
    if origin != f"http://{request.headers.get('Host')}" and (origin is not None or request.method != "GET"):
        return False
    cookie, token = request.cookies.get(cookie_name(gateway)), request.headers.get(TOKEN_HEADER)
    return bool(cookie and token) and gateway.logins.holds(str(cookie), str(token))


def check_user(request: web.Request) -> None:
    """Refuse the browsers of other users of this machine: they may have seen the link among the running commands."""
    peer = request.transport.get_extra_info("peername") if request.transport else None
    here = request.transport.get_extra_info("sockname") if request.transport else None
    if isinstance(peer, tuple) and isinstance(here, tuple) and user_at(peer[:2], here[:2]) not in (None, os.getuid()):
        raise ForbiddenError("This page belongs to another user of this machine.", hint="Start a Pantry of your own.")


def cookie_name(gateway: Gateway) -> str:
    """Cookies know no ports, so the name does: two services on one machine do not overwrite each other's."""
    return f"pantry-{gateway.info.port if gateway.info else 0}"
