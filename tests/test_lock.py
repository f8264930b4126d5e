"""Every extra of pyproject.toml resolves with the lock: each requirement, and theirs in turn, is met by its pin."""

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
INSTALLERS = {"pip", "setuptools", "wheel"}  # pip freeze leaves them out
EXTRAS = {"": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


def pins() -> dict[str, Version]:
    pairs = (line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def counts(requirement: Requirement, extras: frozenset[str]) -> bool:
    """Whether a requirement of a package asked for with these extras holds on this machine."""
    marker, here = requirement.marker, default_environment()
    return marker is None or any(marker.evaluate({**here, "extra": extra}) for extra in extras | {""})


def unmet(requirements: list[str], locked: dict[str, Version]) -> Iterator[str]:
    """What the lock does not meet of requirements and of what they need in turn, by the metadata that is installed."""
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(Requirement(text), "pyproject.toml", frozenset[str]()) for text in requirements]
    while waiting:
        requirement, of, extras = waiting.pop()
        name, asked = canonicalize_name(requirement.name), frozenset(requirement.extras)
        if name in INSTALLERS or not counts(requirement, extras):
            continue
        if name not in locked:
            yield f"{of} needs {requirement}, which the lock does not have"
        elif not requirement.specifier.contains(locked[name], prereleases=True):
            yield f"{of} needs {requirement}; the lock has {locked[name]}"
        elif (name, asked) not in seen:
            seen.add((name, asked))
            try:
                needs = distribution(name).requires or []
            except PackageNotFoundError:
                yield f"{requirement} is not installed, so its own needs are not known; make installs every extra"
                continue
            waiting.extend((Requirement(text), f"{name} {locked[name]}", asked) for text in needs)


@pytest.mark.parametrize("extra", EXTRAS, ids=lambda extra: extra or "no extra")
def test_extra_resolves_with_the_lock(extra: str) -> None:
    assert list(unmet(EXTRAS[extra], pins())) == []


def test_conflict_below_an_extra_is_found() -> None:
    conflicts = list(unmet(["litellm[proxy]"], pins()))
    assert any(conflict.startswith("litellm") and "rich" in conflict for conflict in conflicts), conflicts


def test_package_outside_the_lock_is_found() -> None:
    assert list(unmet(["httpx", "left-out>=1"], pins())) == [
        "pyproject.toml needs left-out>=1, which the lock does not have"
    ]
