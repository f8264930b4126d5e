"""pantry delta, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pantry.cli._app import run
from tests.formats.model_files import base_tensors, read_tree, safetensors, tuned_tensors, write_folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    base = write_folder(tmp_path / "base", {"m.safetensors": safetensors(base_tensors()), "c.json": b"{}"})
    target = write_folder(tmp_path / "target", {"m.safetensors": safetensors(tuned_tensors()), "c.json": b"{}"})
    return str(base), str(target)


def test_make_inspect_apply(tmp_path: Path, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    delta, out = str(tmp_path / "tuned.fpk"), str(tmp_path / "out")
    assert not run(["delta", "make", *pair, "-o", delta, "--base-licence", "MIT", "--author", "Ada"])
    assert "Wrote" in capsys.readouterr().out
    assert not run(["delta", "inspect", delta])
    shown = capsys.readouterr()
    assert "base licence   MIT" in shown.out
    assert "CHANGED MOST" in shown.out
    assert "█" in shown.out
    assert "not signed" in shown.err
    assert not run(["delta", "apply", pair[0], delta, "-o", out])
    shown = capsys.readouterr()
    assert "every digest right, licence MIT" in shown.out
    assert "Warning: target 1.0.0 is not signed." in shown.err
    assert read_tree(Path(out)) == read_tree(Path(pair[1]))


def test_inspect_prints_json(tmp_path: Path, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    delta = str(tmp_path / "tuned")
    assert not run(["delta", "make", *pair, "-o", delta, "--json"])
    made = json.loads(capsys.readouterr().out)
    assert not run(["delta", "inspect", delta, "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["pieces"] == made["pieces"]
    assert shown["signature"]["state"] == "unsigned"
    assert shown["manifest"]["delta"]["bases"][0]["contents"].startswith("sha256:")


def test_a_wrong_base_ends_with_the_code_of_a_failed_verification(
    tmp_path: Path, pair: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    delta = str(tmp_path / "tuned.fpk")
    assert not run(["delta", "make", *pair, "-o", delta, "--base-from", "https://example.org"])
    assert run(["delta", "apply", pair[1], delta, "-o", str(tmp_path / "out")]) == 9
    assert "from https://example.org" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["make", "BASE", "TARGET", "-o", "OUT", "--rename", "a"],
        ["make", "BASE", "TARGET", "-o", "OUT", "--licence", "No-Such"],
        ["make", "BASE", "TARGET", "-o", "OUT", "--name", "Bad Name"],
        ["make", "BASE", "TARGET", "-o", "OUT", "--version", "x y"],
        ["make", "BASE", "TARGET", "-o", "OUT", "--author", ""],
        ["make", "BASE", "TARGET", "-o", "OUT", "--base-from", "x" * 501],
        ["make", "BASE", "TARGET", "-o", "OUT", "--base-terms", "x" * 4001],
        ["make", "BASE", "TARGET"],
        ["decrypt", "BASE", "OUT"],
    ],
)
def test_wrong_words_are_a_usage_error(tmp_path: Path, pair: tuple[str, str], arguments: list[str]) -> None:
    known = {"BASE": pair[0], "TARGET": pair[1], "OUT": str(tmp_path / "out")}
    assert run(["delta", *(known.get(word, word) for word in arguments)]) == 2
    assert not (tmp_path / "out").exists()


def test_encrypt_and_decrypt_print_checksums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "plain", {"a": b"alpha", "b": b"beta"})
    (tmp_path / "key").write_bytes(b"k")
    assert not run(["delta", "encrypt", str(tmp_path / "plain"), str(tmp_path / "key"), str(tmp_path / "enc")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    (tmp_path / "sums").write_text("\n".join(lines))
    names = [str(tmp_path / name) for name in ("enc", "key", "out")]
    assert not run(["delta", "decrypt", *names, "--list", str(tmp_path / "sums")])
    assert f"{tmp_path / 'out' / 'a'}" in capsys.readouterr().out
    assert read_tree(tmp_path / "out") == {"a": b"alpha", "b": b"beta"}
