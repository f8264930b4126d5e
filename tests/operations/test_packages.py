"""Packages that are not models: listed, copied out, removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.core.errors import ConflictError, NotFoundError, VerificationError
from pantry.core.paths import Paths
from pantry.flatpack.archive.archive import pack
from pantry.flatpack.manifest import Adapter, Manifest, Provenance, write_manifest
from pantry.flatpack.signing.signature import sign
from pantry.operations.packages import copy_package, installed_packages, package_files, remove_package
from pantry.operations.pull import pull
from tests.repository.flatpacks import SIGNER, trust_signer


@pytest.fixture
def adapter(paths: Paths, tmp_path: Path) -> str:
    """An adapter, pulled from a file; its name."""
    source = tmp_path / "source"
    source.mkdir()
    manifest = Manifest(
        kind="adapter", name="ada/hat", version="1.0.0", summary="A hat for a fox.", authors=("Ada",),
        adapter=Adapter(base="fox"), provenance=Provenance(data_unknown="The weights are noise."),
    )  # fmt: skip
    write_manifest(manifest, source)
    (source / "deep").mkdir()
    (source / "deep" / "adapter.txt").write_bytes(b"weights")
    (source / "run.sh").write_bytes(b"#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    out = tmp_path / "hat.fpk"
    pack(source, out)
    sign(out, [SIGNER])
    trust_signer(paths)
    assert pull(paths, str(out)).model is None
    return "ada/hat"


def test_package_is_listed_by_kind(paths: Paths, adapter: str) -> None:
    assert [each.name for each in installed_packages(paths, "adapter")] == [adapter]
    assert installed_packages(paths, "model") == []
    package, files = package_files(paths, adapter)
    assert package.signer == "Ada"
    assert [file.path for file in files] == ["deep/adapter.txt", "flatpack.toml", "run.sh"]


def test_files_are_copied_as_they_were(paths: Paths, adapter: str, tmp_path: Path) -> None:
    copy_package(paths, adapter, tmp_path / "out")
    assert (tmp_path / "out" / "deep" / "adapter.txt").read_bytes() == b"weights"
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o111
    with pytest.raises(ConflictError, match="not an empty folder"):
        copy_package(paths, adapter, tmp_path / "out")


def test_damaged_file_is_not_copied(paths: Paths, adapter: str, tmp_path: Path) -> None:
    _, files = package_files(paths, adapter)
    blob = paths.blobs / files[0].digest.hex[:2] / files[0].digest.hex
    blob.chmod(0o644)
    blob.write_bytes(b"Weights")
    with pytest.raises(VerificationError):
        copy_package(paths, adapter, tmp_path / "out")


def test_package_is_removed_with_its_files(paths: Paths, adapter: str) -> None:
    assert remove_package(paths, adapter) > 0
    assert [file for file in paths.blobs.rglob("*") if file.is_file()] == []
    with pytest.raises(NotFoundError):
        remove_package(paths, adapter)
