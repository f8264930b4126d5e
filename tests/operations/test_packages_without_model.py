"""Packages that hold nothing an engine runs: seen, named and removed like models, and told apart from them."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path

import pytest

from pantry.core.errors import ModelNotFoundError
from pantry.core.paths import Paths
from pantry.install.installed import installed_model
from pantry.operations.models import remove_model
from pantry.operations.packages import installed_packages
from pantry.operations.pull import pull
from tests.install.test_huggingface import hub, offer
from tests.processes import run_pantry
from tests.repository.servers import FileServer

__all__ = ["hub"]
NAMES = ["fox-1b", "org/Fox-1B", "hf.co/org/Fox-1B", "hf://org/Fox-1B"]


@pytest.fixture
def weights(paths: Paths, hub: FileServer) -> Paths:
    """A home with a model of the hub in safetensors."""
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    content = struct.pack("<Q", len(head)) + head + bytes(8)
    offer(hub, {"model.safetensors": content, "config.json": b"{}"}, "org/Fox-1B")
    assert pull(paths, "hf://org/Fox-1B").model is None
    return paths


def test_to_run_it_says_why_not(weights: Paths) -> None:
    with pytest.raises(ModelNotFoundError, match="without a file that an engine here runs") as caught:
        installed_model(weights, "fox-1b")
    assert "pantry package files hf.co/org/Fox-1B" in str(caught.value.hint)
    with pytest.raises(ModelNotFoundError, match="no model 'fox'"):
        installed_model(weights, "fox")


@pytest.mark.parametrize("name", NAMES)
def test_it_is_removed_by_any_of_its_names(weights: Paths, name: str) -> None:
    assert remove_model(weights, name) > 0
    assert installed_packages(weights) == []
    assert not [file for file in weights.blobs.rglob("*") if file.is_file()]


def test_commands_name_it(weights: Paths, home: Path) -> None:
    def pantry(*words: str, fails: int = 0) -> str:
        done = run_pantry(*words, env={**os.environ, "PANTRY_HOME": str(home)})
        assert done.returncode == fails, done.stderr
        return done.stdout + done.stderr

    assert "not to be run: hf.co/org/Fox-1B" in pantry("list")
    said = pantry("show", "fox-1b")
    assert "in 2 files" in said
    assert "no file that an engine here runs" in said
    assert json.loads(pantry("show", "fox-1b", "--json"))["files"] == ["config.json", "model.safetensors"]
    assert "Removed fox-1b" in pantry("rm", "fox-1b")
