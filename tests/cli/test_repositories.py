"""The commands around repositories, as a user types them, each in a process of its own."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.processes import run_pantry
from tests.repository.flatpacks import SIGNER, make_flatpack
from tests.repository.servers import serving


def pantry(*words: str, home: Path, fails: int = 0) -> str:
    """Run a command; its output, errors included. Fails unless it ends with that exit code."""
    done = run_pantry(*words, env={**os.environ, "PANTRY_HOME": str(home)})
    output = done.stdout + done.stderr
    assert done.returncode == fails, output
    assert "Traceback" not in output
    return output


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A repository made and filled by commands, in a home of its own."""
    admin = tmp_path / "admin"
    folder = tmp_path / "lab"
    fpk = make_flatpack(tmp_path / "work")
    made = pantry("repo", "init", str(folder), home=admin)
    assert "Root key:" in made
    assert "root.json" in made
    assert "Published fox 1.0.0." in pantry("repo", "publish", str(folder), str(fpk), home=admin)
    return folder


def test_from_an_empty_folder_to_a_pulled_model(lab: Path, tmp_path: Path) -> None:
    user = tmp_path / "user"
    (tmp_path / "ada.pem").write_bytes(SIGNER.public.pem)
    pantry("key", "trust", str(tmp_path / "ada.pem"), "--name", "Ada", home=user)
    with serving(lab) as server:
        assert "offers 1 flatpacks" in pantry(
            "repo", "add", "lab", server.url, "--root", str(lab / "root.json"), home=user
        )
        said = pantry("pull", "fox", home=user)
        for step in ("metadata verified", "downloading", "digest verified", "signature", "licence", "installed"):
            assert f"\n{step}" in f"\n{said}"
        assert "fox 1.0.0 is installed." in said
        assert "fox 1.0.0 is up to date." in pantry("pull", "fox", "-q", home=user)
        (row,) = json.loads(pantry("pull", "fox", "--json", home=user))
        assert (row["model"], row["up_to_date"], row["signer"]) == ("fox", True, "Ada")
        assert "lab: 1 flatpacks, verified" in pantry("repo", "refresh", home=user)
    (model,) = json.loads(pantry("list", "--json", home=user))
    assert model["licence"] == "Apache-2.0"
    assert "lab" in pantry("repo", "list", home=user)
    assert "Ada" in pantry("package", "list", home=user)
    assert "model.gguf" in pantry("package", "files", "fox", home=user)
    pantry("package", "copy", "fox", str(tmp_path / "out"), home=user)
    assert (tmp_path / "out" / "flatpack.toml").exists()
    assert "whole" in pantry("verify", "--all", home=user)
    assert "Removed 0 files" in pantry("gc", home=user)
    assert "Removed fox" in pantry("package", "rm", "fox", home=user)
    pantry("repo", "remove", "lab", home=user)
    assert json.loads(pantry("repo", "list", "--json", home=user)) == []


def test_keys_are_rotated_and_versions_taken_back(lab: Path, tmp_path: Path) -> None:
    admin, user = tmp_path / "admin", tmp_path / "user"
    first_root = lab / "metadata" / "1.root.json"
    assert "version 2" in pantry("repo", "rotate", str(lab), home=admin)
    pantry("repo", "yank", str(lab), "fox", "1.0.0", "--reason", "it bites", home=admin)
    pantry("repo", "add", "lab", str(lab), "--root", str(first_root), home=user)
    assert "taken back" in pantry("pull", "fox", home=user, fails=3)


def test_root_keys_of_several_people(tmp_path: Path) -> None:
    admin = tmp_path / "admin"
    for name in ("ada", "ben", "eve"):
        pantry("key", "new", name, "--type", "p256", "--no-passphrase", home=admin)
    words = [word for name in ("ada", "ben", "eve") for word in ("--keys", name)]
    pantry("repo", "init", str(tmp_path / "lab"), *words, "--threshold", "2", home=admin)
    root = json.loads((tmp_path / "lab" / "metadata" / "1.root.json").read_text())
    assert root["signed"]["roles"]["root"]["threshold"] == 2
    assert len(root["signed"]["roles"]["root"]["keyids"]) == 3
    assert len(root["signatures"]) == 3
    assert "cannot be met" in pantry(
        "repo", "init", str(tmp_path / "other"), "--keys", "ada", "--threshold", "2", home=admin, fails=2
    )


def test_root_that_is_none(lab: Path, tmp_path: Path) -> None:
    (tmp_path / "no.json").write_text("{}")
    said = pantry("repo", "add", "lab", str(lab), "--root", str(tmp_path / "no.json"), home=tmp_path / "u", fails=8)
    assert "is not a TUF root" in said


def test_others_keys_cannot_publish(lab: Path, tmp_path: Path) -> None:
    said = pantry("repo", "publish", str(lab), home=tmp_path / "stranger", fails=4)
    assert "needs 1 keys, 0 are here" in said


def test_damage_is_told_with_the_way_out(lab: Path, tmp_path: Path) -> None:
    user = tmp_path / "user"
    (tmp_path / "ada.pem").write_bytes(SIGNER.public.pem)
    pantry("key", "trust", str(tmp_path / "ada.pem"), home=user)
    pantry("repo", "add", "lab", str(lab), "--root", str(lab / "root.json"), home=user)
    pantry("pull", "fox", home=user)
    path = Path(pantry("path", "fox", home=user).strip())
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    said = pantry("verify", "--all", home=user, fails=9)
    assert "used by fox" in said
    assert "pantry pull" in said
    (row,) = json.loads(pantry("verify", "--all", "--json", home=user, fails=9))
    assert "fox" in row["used_by"]
    pantry("pull", "fox", home=user)
    assert "whole" in pantry("verify", "--all", home=user)


def test_verify_wants_a_file_or_all(tmp_path: Path) -> None:
    assert "--all" in pantry("verify", home=tmp_path / "u", fails=2)


def test_discover_finds_nothing_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CACHE_HOME", "HF_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS"):
        monkeypatch.delenv(name, raising=False)
    assert "No model of another runner" in pantry("discover", home=tmp_path / "u")


def test_catalogue_entries_travel_with_a_repository(lab: Path, tmp_path: Path) -> None:
    admin, user, file = tmp_path / "admin", tmp_path / "user", tmp_path / "own.toml"
    file.write_text(
        '[[model]]\nid = "lab-7b"\nname = "Lab 7B"\nfamily = "lab"\nsources = ["background"]\nchecked = "2026-11-21"\n'
    )
    said = pantry("repo", "publish", str(lab), "--entries", str(file), home=admin)
    assert "Published the catalogue entries." in said
    said = pantry("repo", "add", "lab", str(lab), "--root", str(lab / "root.json"), home=user)
    assert "lab offers 1 flatpacks and 1 catalogue entries" in said
    assert "Lab 7B" in pantry("show", "lab-7b", home=user)
    pantry("repo", "publish", str(lab), "--no-entries", home=admin)
    assert "lab: 1 flatpacks, verified" in pantry("repo", "refresh", home=user)
    pantry("show", "lab-7b", home=user, fails=3)


def test_a_root_is_signed_on_two_machines(tmp_path: Path) -> None:
    ada, ben, folder = tmp_path / "ada", tmp_path / "ben", tmp_path / "lab"
    for home, name in ((ada, "ada"), (ben, "ben")):
        pantry("key", "new", name, "--type", "p256", "--no-passphrase", home=home)
    public = tmp_path / "ben.pem"
    public.write_text(pantry("key", "export", "ben", home=ben))
    said = pantry("repo", "init", str(folder), "--threshold", "2", "--keys", f"ada,{public}", home=ada)
    assert "1 more must sign" in said
    sent = tmp_path / "sent.json"
    sent.write_bytes((folder / "root.draft.json").read_bytes())
    assert said.count("has not signed") == 1
    assert pantry("repo", "sign", str(sent), "--key", "ben", home=ben).count("has signed") == 2
    assert "The root is now version 1." in pantry("repo", "sign", str(folder), str(sent), home=ada)
    pantry("repo", "publish", str(folder), str(make_flatpack(tmp_path / "work")), home=ada)
    assert "1 more must sign" in pantry("repo", "rotate", str(folder), "--key", "ada", home=ada)
    sent.write_bytes((folder / "root.draft.json").read_bytes())
    pantry("repo", "sign", str(sent), "--key", "ben", home=ben)
    assert "The root is now version 2." in pantry("repo", "sign", str(folder), str(sent), home=ada)
