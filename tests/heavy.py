"""Tells which tests start processes or servers, or need torch, by what their modules import; `make fast` skips them."""

from __future__ import annotations

from types import ModuleType

import pytest

STARTERS = frozenset(
    {
        "subprocess",
        "torch",
        "tests.processes",
        "tests.service.running",
        "tests.service.calling",
        "tests.repository.servers",
    }
)
"""Modules from which a test takes what starts something."""


def is_heavy(module: ModuleType) -> bool:
    """Whether a test module has anything of STARTERS, or a starter itself, among its names."""
    for value in vars(module).values():
        origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if origin in STARTERS or (isinstance(origin, str) and origin.startswith(("pantry.workshop.training", "torch"))):
            return True
    return False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known: dict[str, bool] = {}
    for item in items:
        module = getattr(item, "module", None)
        if module is None:
            continue
        if known.setdefault(module.__name__, is_heavy(module)):
            item.add_marker("heavy")
