"""The client as a distribution of its own: it talks to a service and brings no engine."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import pantry
from tests.service.running import Service, starting

PROJECT = Path(pantry.__file__).parent.parent / "packages" / "client"
CODE = """
import importlib.util, os, sys
from pantry import Client
assert importlib.util.find_spec("pantry.service") is None and importlib.util.find_spec("pantry.engines") is None
print(Client(key=sys.argv[1], address=sys.argv[2]).chat("one two", model="echo"))
"""


def test_version_is_that_of_pantry() -> None:
    assert tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"] == pantry.__version__


@pytest.mark.slow
def test_wheel_of_the_client_alone_talks_to_a_service(tmp_path: Path, home_folder: Path) -> None:
    pytest.importorskip("hatchling")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*command, str(PROJECT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 200_000
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    service = Service(home_folder)
    service.add_echo()
    with starting(service):
        done = subprocess.run(
            [sys.executable, "-S", "-c", CODE, service.key, f"http://127.0.0.1:{service.port}"],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path / "site"), "PANTRY_HOME": str(tmp_path / "h")},
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )
    assert done.stdout == "one two\n", done.stderr


@pytest.fixture
def home_folder(tmp_path: Path) -> Path:
    return tmp_path / "own-home"
