"""Fixtures of this room: a small source folder, keys, and flatpacks made from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.flatpack.archive.archive import pack
from pantry.flatpack.signing.keys import PrivateKey, new_key
from pantry.flatpack.signing.signature import sign
from pantry.flatpack.signing.trust import Trust

MANIFEST = """\
flatpack = 2
kind = "model"
name = "ada/tiny"
version = "1.0.0"
summary = "A tiny model for tests."
authors = ["Ada"]

[provenance]
data_unknown = "The weights are noise."

[model]
family = "toy"
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder that can be packed: small text, an empty file, a program, a long and a non-ASCII name, two frames."""
    folder = tmp_path / "tiny"
    (folder / "sub").mkdir(parents=True)
    (folder / "flatpack.toml").write_text(MANIFEST)
    (folder / "README.md").write_text("# Tiny\n" * 50)
    (folder / "empty").write_bytes(b"")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "sub" / "wörter.txt").write_text("Wörter\n")
    (folder / ("long-" * 24)).write_text("a name of 120 bytes")
    return folder


@pytest.fixture(scope="session")
def ec_key() -> PrivateKey:
    return new_key("p256")


@pytest.fixture(scope="session")
def rsa_key() -> PrivateKey:
    return new_key("rsa4096")


@pytest.fixture
def trust(ec_key: PrivateKey, rsa_key: PrivateKey) -> Trust:
    """Trust in both test keys, for every name."""
    return Trust.only(ec_key.public, rsa_key.public, name="Ada")


@pytest.fixture
def packed(source: Path, tmp_path: Path) -> Path:
    return pack(source, tmp_path / "tiny.fpk").path


@pytest.fixture
def signed(packed: Path, tmp_path: Path, ec_key: PrivateKey, rsa_key: PrivateKey) -> Path:
    return sign(packed, [rsa_key, ec_key], tmp_path / "signed.fpk")


def tree(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Every file with its bytes and whether it may be run."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), bool(file.stat().st_mode & 0o100))
        for file in folder.rglob("*")
        if file.is_file()
    }
