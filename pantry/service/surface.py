"""API surfaces: each is one file that says its routes, the form of its errors, and how a key is sent to it.

A file in `api/` or `web/` offers a `surface`; its name is its registry name, and other distributions add theirs as
entry points of the group `pantry.surfaces`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from pantry.core.errors import ConflictError, PantryError
from pantry.core.registry import Registry
from pantry.core.settings import Settings
from pantry.service.context import ServiceContext
from pantry.service.http import error_body

log = logging.getLogger("pantry.service")
APIS = Registry("pantry.service.api", "pantry.surfaces", "surface", "API surface")
"""The APIs for programs."""
PAGE_VIEWS = Registry("pantry.service.web", "pantry.page_views", "surface", "view of the page")
"""What the owner's page and command line ask, a file a view."""


@dataclass(frozen=True)
class Surface:
    """Routes of the service's main port that belong together."""

    routes: web.RouteTableDef
    error_body: Callable[[PantryError], dict[str, Any]] = error_body
    """The JSON that tells a client of an error."""
    key_header: str | None = None
    """A header that may carry the bare key, beside `Authorization: Bearer`."""
    for_pages: bool = False
    """Whether web pages whose origin is an approved app may call."""
    needs_key: bool = True
    """False where a call without a key is let through as nobody's, and each handler says what it needs."""


@dataclass(frozen=True)
class OwnPort:
    """A surface that listens on a port and a Unix socket of its own, when its setting is on."""

    is_on: Callable[[Settings], bool]
    port: Callable[[Settings], int]
    socket: Callable[[Settings], Path]
    build: Callable[[ServiceContext], web.Application]


DEFAULT = Surface(web.RouteTableDef())
"""The rules for a path that belongs to no surface."""
SURFACES = web.AppKey("surfaces", dict[str, Surface])
"""Where an application keeps the surface of each path."""


def surfaces_of(*registries: Registry) -> list[Surface]:
    """The surfaces of the main port that the registries know, by name."""
    return [each for registry in registries for each in _offered(registry) if isinstance(each, Surface)]


def own_ports(settings: Settings) -> list[OwnPort]:
    """The surfaces that are to listen on ports of their own."""
    return [each for each in _offered(APIS) if isinstance(each, OwnPort) and each.is_on(settings)]


def _offered(registry: Registry) -> Iterator[Surface | OwnPort]:
    """What the files and entry points of a registry offer. One that does not load is told in the log, and left out."""
    for name in registry.names():
        try:
            found = registry.get(name)
        except PantryError as error:
            log.error("%s The service answers without it.", error, exc_info=error.__cause__)
            continue
        if isinstance(found, Surface | OwnPort):
            yield found
        else:
            log.error("The %s %r is not one: %.200r. The service answers without it.", registry.noun, name, found)


def paths_of(surfaces: Iterable[Surface]) -> dict[str, Surface]:
    """The surface of each path. Raises ConflictError for a path of two: the rules of one would hold for the other."""
    found: dict[str, Surface] = {}
    for surface in surfaces:
        for path in {route.path for route in surface.routes if isinstance(route, web.RouteDef)}:
            if path in found:
                raise ConflictError(
                    f"Two API surfaces answer at {path}.", hint="Uninstall the package whose surface was added last."
                )
            found[path] = surface
    return found


def surface_of(request: web.Request) -> Surface:
    """The surface that a request is for, also when its method is not one that the path answers."""
    known = request.app[SURFACES]
    if found := known.get(request.path):
        return found
    resource = request.match_info.route.resource
    return known.get(resource.canonical, DEFAULT) if resource else DEFAULT
