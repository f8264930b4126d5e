"""What pack, sign, the scripts of 2023 and dataset export may write over, and what they may not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pantry.core.errors import ConflictError, UsageError
from pantry.core.paths import Paths
from pantry.operations import flatpacks
from pantry.operations.datasets import write_export
from pantry.operations.keys import new_identity
from tests.operations.test_flatpacks import fill, silent

pytestmark = pytest.mark.usefixtures("ready_rsa_keys")

KEY = "-----BEGIN PRIVATE KEY-----\nmine\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tales"
    flatpacks.start_flatpack(made, "recipe")
    fill(made)
    return made


@pytest.fixture
def fpk(folder: Path) -> Path:
    return flatpacks.pack_flatpack(folder).path


@pytest.fixture
def key(paths: Paths) -> Path:
    new_identity(paths, "me", "rsa4096", None)
    return paths.config / "keys" / "me.rsa4096.pem"


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    file = tmp_path / "precious.pem"
    file.write_text(KEY)
    return file


def refused(work: Callable[[], object], kept: Path, kind: type[Exception] = ConflictError) -> str:
    before = kept.read_bytes()
    with pytest.raises(kind) as error:
        work()
    assert kept.read_bytes() == before
    assert not list(kept.parent.glob(".tmp-*"))
    return str(error.value)


def test_pack_overwrites_only_a_flatpack(folder: Path, fpk: Path, precious: Path, tmp_path: Path) -> None:
    text = refused(lambda: flatpacks.pack_flatpack(folder, precious), precious)
    assert "is not a flatpack" in text
    assert "Name another file" in text
    first = fpk.read_bytes()
    (folder / "README.md").write_text("changed")
    assert flatpacks.pack_flatpack(folder).path.read_bytes() != first
    empty = tmp_path / "made-by-mktemp"
    empty.touch()
    flatpacks.pack_flatpack(folder, empty)
    (tmp_path / "link.fpk").symlink_to(precious)
    refused(lambda: flatpacks.pack_flatpack(folder, tmp_path / "link.fpk"), precious)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConflictError, match="a device, pipe or socket"):
        flatpacks.pack_flatpack(folder, tmp_path / "pipe")
    with pytest.raises(ConflictError, match="is a folder"):
        flatpacks.pack_flatpack(folder, tmp_path)


def test_another_archive_is_not_taken_for_a_flatpack(folder: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.tar.zst"
    backup.write_bytes(b"\x28\xb5\x2f\xfd rest of a backup")
    refused(lambda: flatpacks.pack_flatpack(folder, backup), backup)


def test_sign_writes_in_place_or_over_a_flatpack_only(
    paths: Paths, fpk: Path, key: Path, precious: Path, tmp_path: Path
) -> None:
    assert flatpacks.sign_flatpack(paths, fpk, "me", silent) == fpk
    out = tmp_path / "out.fpk"
    for _ in range(2):
        flatpacks.sign_flatpack(paths, fpk, "me", silent, out=out)
    refused(lambda: flatpacks.sign_flatpack(paths, fpk, "me", silent, out=precious), precious)
    refused(lambda: flatpacks.sign_flatpack(paths, fpk, str(key), silent, out=key), key, UsageError)
    hard = tmp_path / "hard"
    hard.hardlink_to(key)
    refused(lambda: flatpacks.sign_flatpack(paths, fpk, str(key), silent, out=hard), key, UsageError)


def test_a_legacy_file_never_takes_the_place_of_version_2(paths: Paths, fpk: Path, key: Path, tmp_path: Path) -> None:
    def sign(out: Path | None) -> Path:
        return flatpacks.sign_flatpack(paths, fpk, "me", silent, out=out, form="legacy")

    assert "-o" in refused(lambda: sign(None), fpk, UsageError)
    refused(lambda: sign(fpk), fpk, UsageError)
    other = tmp_path / "other.fpk"
    other.write_bytes(fpk.read_bytes())
    assert "legacy" in refused(lambda: sign(other), other)
    for _ in range(2):
        sign(tmp_path / "old.fpk")
    refused(lambda: flatpacks.pack_flatpack(fpk.with_suffix(""), tmp_path / "old.fpk"), tmp_path / "old.fpk")


def test_the_script_of_2023_overwrites_only_its_own_results(
    folder: Path, fpk: Path, key: Path, precious: Path, tmp_path: Path
) -> None:
    def run(compressed: Path, signed: Path) -> None:
        flatpacks.compress_and_sign(folder, compressed, signed, key, 256, silent)

    data, signed = tmp_path / "c.fpk", tmp_path / "s.fpk"
    for _ in range(2):
        run(data, signed)
    for out in (precious, fpk, signed):
        refused(lambda out=out: run(out, tmp_path / "new"), out)  # type: ignore[misc]
    for out in (precious, fpk, data):
        refused(lambda out=out: run(tmp_path / "new", out), out)  # type: ignore[misc]
    refused(lambda: run(key, signed), key, UsageError)
    refused(lambda: run(data, key), key, UsageError)
    refused(lambda: run(folder / "README.md", signed), folder / "README.md", UsageError)
    with pytest.raises(UsageError, match="one file for both"):
        run(tmp_path / "both", tmp_path / "both")
    assert not (tmp_path / "new").exists()
    assert not (tmp_path / "both").exists()
    single = tmp_path / "model.bin"
    single.write_bytes(b"weights")
    refused(lambda: flatpacks.compress_and_sign(single, single, signed, key, 256, silent), single, UsageError)


def test_dataset_export_overwrites_only_an_export(folder: Path, precious: Path, tmp_path: Path) -> None:
    card, mine = folder / "DATASET.md", folder / "README.md"
    for form in ("croissant", "huggingface"):
        refused(lambda form=form: write_export(card, form, card), card, UsageError)  # type: ignore[misc]
        refused(lambda form=form: write_export(folder, form, precious), precious)  # type: ignore[misc]
        refused(lambda form=form: write_export(folder, form, mine), mine)  # type: ignore[misc]
        for _ in range(2):
            write_export(folder, form, tmp_path / form)
    refused(lambda: write_export(folder, "croissant", tmp_path / "huggingface"), tmp_path / "huggingface")


def test_what_a_killed_run_left_goes_with_the_next(folder: Path, fpk: Path, paths: Paths, tmp_path: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from pantry.core import files
from pantry.operations.flatpacks import pack_flatpack, unbox_flatpack
from pantry.core.paths import find_paths
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
fpk, out = map(Path, sys.argv[2:])
if sys.argv[1] == "pack":
    pack_flatpack(out, fpk)
else:
    unbox_flatpack(find_paths(), fpk, out, allow_unsigned=True)
"""
    for words in (["pack", fpk, folder], ["unbox", fpk, tmp_path / "out"]):
        subprocess.run([sys.executable, "-c", code, *words], check=False)
    assert len(list(tmp_path.glob(".tmp-*"))) == 2
    flatpacks.pack_flatpack(folder, fpk)
    flatpacks.unbox_flatpack(paths, fpk, tmp_path / "out", allow_unsigned=True)
    assert not list(tmp_path.glob(".tmp-*"))
