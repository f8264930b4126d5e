"""Batches of .enc files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from pantry.core.errors import NotFoundError
from pantry.operations.deltas import decrypt_files, encrypt_files
from tests.formats.model_files import read_tree, write_folder


def test_a_folder_of_files_goes_through_enc_and_back(tmp_path: Path) -> None:
    tree = {"a.bin": b"alpha" * 100, "b.json": b"{}", "empty": b""}
    plain, key = write_folder(tmp_path / "plain", tree), tmp_path / "key"
    key.write_bytes(b"key bytes")
    written = encrypt_files(plain, key, tmp_path / "enc")
    lines = [f"{hashlib.md5(f.path.read_bytes()).hexdigest()}  encrypted/{f.path.name}\n" for f in written]
    lines += [f"{hashlib.sha256(content).hexdigest()}  result/{name}\n" for name, content in tree.items()]
    sums = tmp_path / "sums.txt"
    sums.write_text("".join(lines))
    for _ in range(2):  # the second time everything is there and right
        back = decrypt_files([tmp_path / "enc"], key, tmp_path / "out", checksums=sums)
        assert read_tree(tmp_path / "out") == tree
        assert [file.sha256 for file in back] == [hashlib.sha256(tree[name]).hexdigest() for name in sorted(tree)]
    written[0].path.unlink()
    with pytest.raises(NotFoundError, match=r"Listed, but not there: a\.bin"):
        decrypt_files([tmp_path / "enc"], key, tmp_path / "out", checksums=sums)


def test_a_folder_without_enc_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "enc").mkdir()
    with pytest.raises(NotFoundError, match="holds no files"):
        decrypt_files([tmp_path / "enc"], tmp_path / "key", tmp_path / "out")
    with pytest.raises(NotFoundError, match="no file"):
        encrypt_files(tmp_path / "none", tmp_path / "key", tmp_path / "out")
