"""API surfaces of other distributions beside the built-in ones."""

import sys
import types
from importlib.metadata import EntryPoint

import pytest
from aiohttp import web

from pantry.core.errors import ConflictError
from pantry.core.registry import Registry
from pantry.service.app import main_surfaces
from pantry.service.surface import Surface, paths_of, surfaces_of


async def answer(request: web.Request) -> web.Response:
    return web.Response()


def surface_at(path: str) -> Surface:
    routes = web.RouteTableDef()
    routes.get(path)(answer)
    return Surface(routes)


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    """The APIs, with entry points of three other distributions."""
    module = types.ModuleType("surfaces_for_test")
    module.good, module.nonsense = surface_at("/own/route"), object()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "surfaces_for_test", module)
    group = "pantry.surfaces"
    entries = [
        EntryPoint("broken", "surfaces_for_test_that_are_not_there:surface", group),
        EntryPoint("nonsense", "surfaces_for_test:nonsense", group),
        EntryPoint("good", "surfaces_for_test:good", group),
    ]
    monkeypatch.setattr("pantry.core.registry.entry_points", lambda group: entries)
    return Registry("pantry.service.api", group, "surface", "API surface")


def test_surface_that_does_not_load_fails_alone(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    paths = paths_of(surfaces_of(registry))
    assert {"/own/route", "/v1/models", "/completions"} <= set(paths)
    broken, nonsense = caplog.messages
    assert "'broken' does not load: No module named" in broken
    assert "'nonsense' is not one" in nonsense


def test_path_of_two_surfaces_is_a_conflict() -> None:
    with pytest.raises(ConflictError, match="Two API surfaces answer at /v1/models"):
        paths_of([*main_surfaces(), surface_at("/v1/models")])
