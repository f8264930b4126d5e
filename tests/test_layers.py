"""The architecture, enforced: imports only go down the list of rooms, and never in a circle, inside a room either."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pantry"

LAYERS = [
    {"core"},
    {"formats", "starter"},
    {"store", "catalogue", "client"},
    {"flatpack", "engines", "access", "evaluation", "retrieval"},
    {"repository", "workshop", "policy"},
    {"selection", "install"},
    {"operations"},
    {"service"},
    {"cli"},
]
"""Lowest first. Rooms of one layer do not import each other."""


def room_of(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def level(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def imports_of(source: str) -> set[str]:
    """Every `pantry.x` that a module imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        found |= {name for name in names if name.startswith("pantry.")}
    return found


MODULES = [
    file.relative_to(PACKAGE)
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.relative_to(PACKAGE).parts[0] not in ("__init__.py", "__main__.py")
]


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_only_go_down(module: Path) -> None:
    mine = room_of(module.parts)
    for name in imports_of((PACKAGE / module).read_text()):
        parts = name.split(".")[1:]
        other = parts[0]
        if other in (mine, "__version__"):
            continue
        assert level(other) < level(mine), f"{module} imports {name}"
        assert not any(part.startswith("_") and not part.startswith("__") for part in parts), (
            f"{module} imports {name}, private to its room"
        )


def test_every_room_has_a_layer() -> None:
    for module in MODULES:
        level(room_of(module.parts))


def module_names(package: Path) -> dict[str, Path]:
    """The dotted name of every module of a package, an `__init__.py` under the name of its folder."""
    names = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = file
    return names


def circle_in(sources: dict[str, str]) -> list[str] | None:
    """A circle of imports among modules given by name and source, its first module again at its end; None if none.

    An import inside a function counts: it hides a circle from Python, not from a reader. What a package's own
    `__init__` offers counts as an import of that file.
    """
    graph = {}
    for name, source in sources.items():
        wanted = set()
        for imported in imports_of(source):
            found = imported if imported in sources else imported.rpartition(".")[0]
            if found in sources and found != name:
                wanted.add(found)
        graph[name] = wanted
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_no_modules_import_each_other_in_a_circle() -> None:
    sources = {name: file.read_text() for name, file in module_names(PACKAGE).items()}
    circle = circle_in(sources)
    assert circle is None, " <- ".join(circle or [])


@pytest.mark.parametrize(
    "second",
    ["from pantry.first import a", "import pantry.first", "def f():\n    from pantry import first"],
)
def test_a_circle_is_found(second: str) -> None:
    assert circle_in({"pantry.first": "from pantry.second import b", "pantry.second": second}) is not None
    assert circle_in({"pantry.first": "from pantry.second import b", "pantry.second": "import json"}) is None
