"""The architecture, enforced: imports only go down the list of rooms."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "pantry"

LAYERS = [
    {"core"},
    {"formats", "starter", "permissions"},
    {"store", "catalogue", "client"},
    {"flatpack"},
    {"engines", "repository"},
    {"workshop", "evaluation", "selection", "policy"},
    {"operations"},
    {"service"},
    {"cli"},
]
"""Lowest first. Rooms of one layer do not import each other, save as ALLOWED_BESIDE says."""

ALLOWED_BESIDE = {("selection", "policy")}


def room_of(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


def level(room: str) -> int:
    return next(number for number, rooms in enumerate(LAYERS) if room in rooms)


def imports_of(file: Path) -> set[str]:
    """Every `pantry.x` a file imports anywhere, functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: write imports absolute"
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
    for name in imports_of(PACKAGE / module):
        parts = name.split(".")[1:]
        other = parts[0]
        if other in (mine, "__version__"):
            continue
        assert level(other) < level(mine) or (mine, other) in ALLOWED_BESIDE, f"{module} imports {name}"
        assert not any(part.startswith("_") and not part.startswith("__") for part in parts), (
            f"{module} imports {name}, private to its room"
        )


def test_every_room_has_a_layer() -> None:
    for module in MODULES:
        level(room_of(module.parts))
