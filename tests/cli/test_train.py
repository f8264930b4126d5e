"""`pantry train` as a user types it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from pantry.cli._app import run
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.operations.flatpacks import start_flatpack
from pantry.store.models import Store
from tests.workshop.conftest import TINY, write_text

PANTRY = [sys.executable, "-W", "error", "-m", "pantry"]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """What `pantry init tales --template recipe` makes, with a little text and the sizes of a tiny model."""
    folder = tmp_path / "tales"
    start_flatpack(folder, "recipe")
    write_text(folder)
    settings = "".join(f"{name} = {value}\n" for name, value in TINY.items())
    with (folder / "flatpack.toml").open("a") as file:
        file.write(f"\n[recipe.settings]\n{settings}tokens = 2560\nonnx = false\n")
    return folder


def test_a_dry_run_prints_every_setting_and_makes_nothing(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", str(recipe), "--dry-run", "--json", "--minutes", "2"]) == 0
    settings = json.loads(capsys.readouterr().out)
    assert (settings["width"], settings["minutes"], settings["tokens"]) == (32, 2.0, None)
    assert run(["train", str(recipe), "--dry-run"]) == 0
    shown = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert shown.keys() == settings.keys()
    assert (shown["minutes"], shown["dataset"]) == ("none", "none")
    assert [item.name for item in recipe.parent.iterdir()] == ["tales"]


def test_init_says_where_the_text_goes_and_how_to_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "poems"
    assert run(["init", str(folder), "--template", "recipe"]) == 0
    said = capsys.readouterr().err
    assert f"Put your text into {folder}/data, then: pantry train {folder}" in said


def test_a_bad_setting_is_named(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (recipe / "flatpack.toml").open("a") as file:
        file.write("lerning_rate = 1\n")
    assert run(["train", str(recipe)]) == 8
    assert "there is no key 'lerning_rate'; did you mean 'learning_rate'?" in capsys.readouterr().err


def test_a_folder_without_a_recipe_is_told_how_to_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", str(tmp_path)]) == 3
    assert "--template recipe" in capsys.readouterr().err


def test_resume_and_fresh_exclude_each_other(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", str(recipe), "--resume", "--fresh"]) == 2
    assert "give one of them" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    recipe: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pantry.workshop.training.extra.find_spec", lambda name: None if name == "torch" else find_spec(name)
    )
    assert run(["train", str(recipe)]) == 16
    assert "pip install 'pantry-llm[train]'" in capsys.readouterr().err


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    pytest.importorskip("torch")
    return {**os.environ, "PANTRY_HOME": str(home), "OMP_NUM_THREADS": "1"}


def pantry(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PANTRY, *words], env=environment, capture_output=True, text=True, timeout=120)


def start_and_stop(recipe: Path, environment: dict[str, str], number: signal.Signals) -> tuple[int, str]:
    """Start a long training, wait for its first checkpoint, send the signal; its exit code and what it said."""
    words = ["train", str(recipe), "--threads", "1", "--no-install", "--fresh"]
    process = subprocess.Popen([*PANTRY, *words], env=environment, stderr=subprocess.PIPE, text=True)
    checkpoint = recipe.parent / "tales-training" / "checkpoint.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.slow
def test_from_text_to_an_installed_model(recipe: Path, environment: dict[str, str], paths: Paths) -> None:
    done = pantry(environment, "train", str(recipe), "--threads", "1", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["installed"], result["steps"]) == ("tales", 20)
    with Store.open(paths) as store:
        first = store.get(ModelName("tales"))
        assert store.verified_file(first).read_bytes() == Path(result["model"]).read_bytes()
    assert "Licence" in " ".join(result["to_fill_in"])
    again = pantry(environment, "train", str(recipe), "--threads", "1", "--tokens", "128")
    assert again.returncode == 0, again.stderr
    assert "Installed as tales" in again.stdout
    with Store.open(paths) as store:
        assert store.get(ModelName("tales")).digest != first.digest
    try:
        answer = pantry(environment, "run", "tales", "The cat", "--max-tokens", "5", "--json")
        assert answer.returncode == 0, answer.stderr
        assert 1 <= json.loads(answer.stdout)["completion_tokens"] <= 5
    finally:
        pantry(environment, "down")


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_weights(recipe: Path, environment: dict[str, str]) -> None:
    with (recipe / "flatpack.toml").open("a") as file:
        file.write("save_minutes = 0.0001\nevaluate_every = 1000\n")
    text = (recipe / "flatpack.toml").read_text()
    (recipe / "flatpack.toml").write_text(text.replace("tokens = 2560", "tokens = 19200"))
    assert start_and_stop(recipe, environment, signal.SIGKILL)[0] == -signal.SIGKILL
    weights = recipe.parent / "tales-model" / "huggingface" / "model.safetensors"
    resumed = pantry(environment, "train", str(recipe), "--threads", "1", "--no-install", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed   at step" in resumed.stderr
    continued = weights.read_bytes()
    assert pantry(environment, "train", str(recipe), "--threads", "1", "--no-install").returncode == 0
    assert weights.read_bytes() == continued


@pytest.mark.slow
def test_ctrl_c_saves_and_exits_130(recipe: Path, environment: dict[str, str]) -> None:
    with (recipe / "flatpack.toml").open("a") as file:
        file.write("save_minutes = 0.0001\n")
    text = (recipe / "flatpack.toml").read_text()
    (recipe / "flatpack.toml").write_text(text.replace("tokens = 2560", "tokens = 6400000"))
    code, said = start_and_stop(recipe, environment, signal.SIGINT)
    assert code == 130
    assert "go on with --resume" in said
    assert "Traceback" not in said
