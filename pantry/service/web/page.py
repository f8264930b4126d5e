"""The owner's page, where the user answers what apps ask: its files, and logging a browser in with a one-time code.

The files hold no secrets and need no key. `pantry page` asks for a code over the owner's socket and puts it behind the
`#` of an address, which browsers send to nobody; the page trades it for a login (see _logins) and forgets it.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from importlib.resources.abc import Traversable

from aiohttp import web

from pantry.core.errors import ForbiddenError, NotFoundError, UnauthorisedError, UsageError
from pantry.service.browser import check_user, cookie_name, is_logged_in
from pantry.service.http import caller_of, read_json
from pantry.service.state import GATEWAY
from pantry.service.surface import Surface

routes = web.RouteTableDef()
surface = Surface(routes)
FOLDER = "/ui/"
OPEN_PATHS = frozenset({"/", "/ui/login", "/ui/logout"})
"""What needs no key, beside the files under FOLDER."""
_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    ),
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


def is_open(path: str) -> bool:
    """Whether a path of the page needs no key."""
    return path in OPEN_PATHS or (path.startswith(FOLDER) and path.removeprefix(FOLDER) in (*_files(), ""))


@routes.get("/")
async def front(request: web.Request) -> web.Response:
    """The way to the owner's page."""
    return web.Response(status=HTTPStatus.FOUND, headers={"Location": FOLDER})


@routes.get("/ui/")
async def index(request: web.Request) -> web.Response:
    """The owner's page; `pantry page` opens it logged in."""
    return _file("index.html")


@routes.get("/ui/{name:.+}")
async def file(request: web.Request) -> web.Response:
    """A file of the page."""
    return _file(request.match_info["name"])


@routes.post("/admin/page-code")
async def code(request: web.Request) -> web.Response:
    """A one-time code that logs a browser in on the page; for the owner alone."""
    if caller_of(request).kind != "owner":
        raise ForbiddenError("Only the owner opens the page.", hint="Use: pantry page")
    return web.json_response({"code": request.app[GATEWAY].logins.new_code()})


@routes.post("/ui/login")
async def login(request: web.Request) -> web.Response:
    """Trade a one-time code, `{"code": CODE}`, for a cookie and the token that goes with it."""
    gateway = request.app[GATEWAY]
    body = await read_json(request, gateway.settings)
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        raise UsageError('Expected a JSON object like {"code": "..."}.')
    check_user(request)
    made = gateway.logins.redeem(body["code"])
    if made is None:
        raise UnauthorisedError("This link was used already, or is too old.", hint="Get a new one with: pantry page")
    cookie, token = made
    response = web.json_response({"token": token}, headers={"Cache-Control": "no-store"})
    response.set_cookie(cookie_name(gateway), cookie, path="/", httponly=True, samesite="Strict")
    return response


@routes.post("/ui/logout")
async def logout(request: web.Request) -> web.Response:
    """End the browser's login."""
    gateway = request.app[GATEWAY]
    if not is_logged_in(request, gateway):
        raise UnauthorisedError("This browser is not logged in.", hint="Open the page with: pantry page")
    gateway.logins.end(request.cookies[cookie_name(gateway)])
    response = web.json_response({"logged_in": False})
    response.del_cookie(cookie_name(gateway), path="/")
    return response


def _file(name: str) -> web.Response:
    content = _files().get(name)
    if content is None:
        raise NotFoundError(f"The page has no file {name[:80]!r}.")
    kind = _TYPES[name.rpartition(".")[2]]
    return web.Response(body=content, content_type=kind, charset="utf-8", headers=_HEADERS)


@cache
def _files() -> dict[str, bytes]:
    """The files of the page by their path below `static`, read once."""
    return dict(_below(importlib.resources.files("pantry.service.web") / "static", ""))


def _below(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    for each in folder.iterdir():
        if each.is_dir():
            yield from _below(each, f"{prefix}{each.name}/")
        elif each.name.rpartition(".")[2] in _TYPES:
            yield prefix + each.name, each.read_bytes()
