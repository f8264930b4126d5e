"""Flatpacks of every released form. They must verify and unbox for ever; never make these files again."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.core.paths import Paths
from pantry.flatpack.archive import archive
from pantry.flatpack.archive.archive import Reader, pack
from pantry.flatpack.manifest import read_manifest
from pantry.flatpack.signing.keys import load_public_keys
from pantry.flatpack.signing.signature import verify
from pantry.flatpack.signing.trust import Trust
from pantry.operations.flatpacks import unbox_flatpack, verify_flatpack
from tests.flatpack.conftest import tree

GOLDEN = Path(__file__).parent / "golden"
CONTENTS = "sha256:99374801671e5a8dae5b0330a5a18915941b48a91f1881f8e0bc55d36e90a7db"
FILES = {"README.md", "empty", "flatpack.toml", "n" * 130, "run.sh", "sub/wörter.txt"}


@pytest.mark.parametrize(
    ("name", "words"), [("v2.fpk", "pantry/golden 1.0.0 is signed by keys"), ("legacy.fpk", "SHA-512")]
)
def test_golden_files_verify_and_unbox(name: str, words: str, paths: Paths, tmp_path: Path) -> None:
    verdict = verify_flatpack(paths, GOLDEN / name, GOLDEN / "keys.pem")
    assert verdict.ok
    assert words in verdict.sentence
    folder = unbox_flatpack(paths, GOLDEN / name, tmp_path / "out", key=GOLDEN / "keys.pem").folder
    found = tree(folder if name == "v2.fpk" else folder / "golden")
    assert found.keys() - {"model.sig"} == FILES
    assert found["run.sh"] == (b"#!/bin/sh\necho golden\n", True)
    assert found["sub/wörter.txt"][0] == "Wörter\n".encode() * 40


def test_each_signature_of_the_golden_file_holds_by_itself() -> None:
    keys = load_public_keys((GOLDEN / "keys.pem").read_bytes(), "keys.pem")
    assert [key.type for key in keys] == ["p256", "rsa4096"]
    assert all(verify(GOLDEN / "v2.fpk", Trust.only(key)).ok for key in keys)


def test_packing_the_golden_tree_again_gives_the_same_contents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compressed bytes may change with the zstd library; tar stream and digests may not."""
    # The tree is older than the rule that asks every model for a card.
    monkeypatch.setattr(archive, "check_source", read_manifest)
    with Reader(GOLDEN / "v2.fpk") as golden:
        golden.unbox(tmp_path / "out")
        assert str(golden.statement.contents) == CONTENTS
        stream = b"".join(golden.tar_stream())
    again = pack(tmp_path / "out", tmp_path / "again.fpk")
    assert str(again.contents) == CONTENTS
    with Reader(again.path) as reader:
        assert b"".join(reader.tar_stream()) == stream
