"""Fixtures every room's tests share: a home of its own for each test, and small GGUF files made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pantry.core.paths import Paths, find_paths
from tests.gguf_files import GGUFBuilder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Pantry home; no test touches the user's own, nor reads the user's settings."""
    for name in [name for name in os.environ if name.startswith("PANTRY_")]:
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    monkeypatch.setenv("PANTRY_HOME", str(folder))
    return folder


@pytest.fixture
def paths(home: Path) -> Paths:
    return find_paths()


@pytest.fixture
def tiny_gguf(tmp_path: Path) -> Path:
    """A valid GGUF file with two small tensors; not a model that any engine can run."""
    file = tmp_path / "tiny.gguf"
    file.write_bytes(GGUFBuilder().build())
    return file
