"""A recipe's own script runs only with a trusted signature and the user's consent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pantry.cli._app import build_app, run
from pantry.core.errors import ConflictError, UsageError, VerificationError
from pantry.core.paths import Paths
from pantry.core.sandbox import require_sandbox
from pantry.operations.flatpacks import pack_flatpack, sign_flatpack, start_flatpack, unbox_flatpack
from pantry.operations.keys import new_identity
from pantry.operations.train import examine_script, limits_for, run_recipe_script
from tests.operations.test_flatpacks import fill, silent

pytestmark = pytest.mark.usefixtures("ready_rsa_keys")


@pytest.fixture(autouse=True)
def _bwrap() -> None:
    try:
        require_sandbox()
    except UsageError as error:
        pytest.skip(f"{error.message} (make test-tools)")


@pytest.fixture
def signed(tmp_path: Path, paths: Paths) -> Path:
    """A recipe with a script of its own, packed, signed by a key that is trusted here, and unboxed."""
    source = tmp_path / "source" / "tales"
    start_flatpack(source, "recipe")
    fill(source)
    (source / "train.sh").write_text("echo working\necho result > ../result.txt\nln -s /etc/passwd ../link\n")
    (source / "data" / "a.txt").write_text("text\n")
    fpk = pack_flatpack(source).path
    new_identity(paths, "me", "both", None)
    sign_flatpack(paths, fpk, "me", silent)
    return unbox_flatpack(paths, fpk, tmp_path / "tales").folder


def test_it_is_shown_and_run_after_a_yes(signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", str(signed), "--run-script", "--yes"]) == 0
    said = capsys.readouterr()
    assert "train.sh, sha256:" in said.out
    assert "is signed by me (" in said.out
    assert "not use the network" in said.out
    assert "working" in said.err
    assert "Deleted, because it is not a file: 'link'" in said.err
    out = signed.parent / "tales-output"
    assert (out / "result.txt").read_text() == "result\n"
    facts = json.loads((out / "provenance.json").read_text())
    assert facts["digest"] in said.out
    assert facts["network"] is False


def test_a_no_runs_nothing(signed: Path) -> None:
    done = CliRunner().invoke(build_app(), ["train", str(signed), "--run-script"], input="n\n")
    assert done.exit_code == 1
    assert "Nothing was run." in done.output
    assert not (signed.parent / "tales-output").exists()


def test_a_plain_training_never_runs_the_script(signed: Path) -> None:
    assert run(["train", str(signed), "--dry-run"]) == 0
    assert not (signed.parent / "tales-output").exists()


@pytest.mark.parametrize("change", ["script", "data", "added", "unsigned"])
def test_what_is_not_covered_by_the_signature_does_not_run(signed: Path, paths: Paths, change: str) -> None:
    if change == "script":
        (signed / "train.sh").write_text("echo other\n")
    elif change == "data":
        (signed / "data" / "a.txt").write_text("other\n")
    elif change == "added":
        (signed / "more.sh").write_text("echo more\n")
    else:
        (signed / "model.sig").unlink()
    with pytest.raises(VerificationError, match="Its script does not run"):
        examine_script(paths, signed)


@pytest.mark.parametrize("mode", ["warn", "off"])
def test_trust_is_asked_for_in_every_mode(signed: Path, paths: Paths, mode: str) -> None:
    (paths.config / "trust.toml").write_text(f'mode = "{mode}"\n')
    with pytest.raises(VerificationError, match="Its script does not run"):
        examine_script(paths, signed)


def test_an_output_folder_with_something_in_it_is_left_alone(signed: Path, paths: Paths) -> None:
    out = signed.parent / "tales-output"
    out.mkdir()
    (out / "mine").write_text("x")
    script = examine_script(paths, signed)
    with pytest.raises(ConflictError, match="is not empty"):
        run_recipe_script(script, limits_for(1, False), print)
    run_recipe_script(script, limits_for(1, False), print, resume=True)
    assert (out / "mine").read_text() == "x"
