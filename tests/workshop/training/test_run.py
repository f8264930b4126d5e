"""A whole training: stages, checkpoints, stops, resume, and the flatpack folder that comes out."""

from __future__ import annotations

import json
import math
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from PIL import Image

from pantry.core.errors import (
    BadFileError,
    ConflictError,
    MemoryBudgetError,
    MissingExtraError,
    NotFoundError,
    StorageError,
    TrainingError,
)
from pantry.flatpack.cards.dataset_card import Card, check_card, parse_card, render_card
from pantry.flatpack.check import check_source
from pantry.flatpack.manifest import read_manifest
from pantry.formats.gguf import read_header
from pantry.operations.flatpacks import start_flatpack
from pantry.workshop.recipe import RecipeFolder
from pantry.workshop.training.checkpoint import load_checkpoint, save_checkpoint
from pantry.workshop.training.loop import Progress, Trainer
from pantry.workshop.training.metrics import Metrics, draw_losses, read_metrics
from pantry.workshop.training.package import manifest_name
from pantry.workshop.training.plan import check_fits, make_plan, training_bytes
from pantry.workshop.training.prepare import prepare
from pantry.workshop.training.run import Places, Trained, train
from tests.workshop.conftest import MakeRecipe, write_text


class Seen:
    """Remembers what it is told; at step `stop_at` it sends the signal that Ctrl-C sends."""

    def __init__(self, stop_at: int = 0) -> None:
        self.stages: dict[str, str] = {}
        self.steps: list[int] = []
        self.stop_at = stop_at

    def stage(self, name: str, text: str) -> None:
        self.stages[name] = text

    def step(self, progress: Progress, done: float) -> None:
        self.steps.append(progress.step)
        if progress.step == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)


def run(recipe: RecipeFolder, watcher: Seen | None = None, **options: bool) -> Trained:
    trained = train(recipe, Places.beside(recipe.folder), watcher or Seen(), **options)
    assert trained is not None
    return trained


@pytest.fixture(autouse=True)
def _no_onnx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its export takes seconds and has tests of its own."""
    monkeypatch.setattr("pantry.workshop.training.package.onnx_is_there", lambda: False)


def test_a_training_leaves_a_flatpack_folder_beside_the_recipe(make_folder: MakeRecipe) -> None:
    recipe, watcher = make_folder(learning_rate=0.01), Seen()
    trained = run(recipe, watcher)
    folder = recipe.folder.parent / "recipe-model"
    assert trained.package.folder == folder
    assert watcher.steps == list(range(1, 21))
    assert list(watcher.stages) == [
        "reading", "tokenizer", "data", "training", "checkpoint", "evaluation", "export", "flatpack",
    ]  # fmt: skip
    assert watcher.stages["export"] == "model.gguf, huggingface/"
    assert trained.held_out.loss < math.log(300)
    manifest = read_manifest_filled(folder)
    assert manifest.model is not None
    assert manifest.model.parameters == read_header(folder / "model.gguf").parameters == trained.parameters
    facts = json.loads((folder / "training/provenance.json").read_text())
    assert facts["held_out_bits_per_byte"] == trained.held_out.bits_per_byte
    assert (facts["steps"], facts["tokens"], facts["seed"]) == (20, 2560, 1)
    assert facts["data"]["digest"] == str(manifest.provenance.datasets[0])
    assert facts["recipe"]["digest"] == recipe.settings.digest()
    assert len(facts["samples"]) == 3
    with Image.open(folder / "training/loss.png") as picture:
        assert picture.size == (960, 540)
    notes = list(read_metrics(folder / "training/metrics.jsonl"))
    assert [note["step"] for note in notes] == [1, 10, 20, 20]
    assert not list(recipe.folder.parent.glob(".tmp-*"))


def read_manifest_filled(folder: Path):
    text = re.sub(r"\[name <address>.*?\]", "Ada", (folder / "flatpack.toml").read_text())
    (folder / "flatpack.toml").write_text(text)
    return read_manifest(folder)


def test_without_a_licence_it_trains_but_does_not_pack(make_folder: MakeRecipe) -> None:
    trained = run(make_folder(tokens=128))
    assert any("'Licence' of 'Metadata'" in fault for fault in trained.package.faults)
    read_manifest_filled(trained.package.folder)
    with pytest.raises(BadFileError, match="Licence"):
        check_source(trained.package.folder)


def test_what_is_left_to_fill_in_is_what_packing_names(make_folder: MakeRecipe) -> None:
    package = run(make_folder(tokens=128)).package
    with pytest.raises(BadFileError) as caught:
        check_source(package.folder)
    assert caught.value.message.splitlines() == [f"{package.folder}/{fault}" for fault in package.faults]
    assert package.faults[0].startswith("flatpack.toml, line ")


def test_the_untouched_card_of_the_recipe_gets_what_is_known_and_one_with_a_word_does_not(
    make_folder: MakeRecipe,
) -> None:
    recipe, watcher = make_folder(tokens=128), Seen()
    file = recipe.folder / "DATASET.md"
    file.write_text(render_card())
    run(recipe, watcher)
    card, faults = parse_card(file.read_bytes())
    assert (card.name, card.data_type, card.format) == ("tiny", "text", "txt")
    assert card.preprocessing[-1] == "5% of the text is held out to measure the loss."
    assert (len(faults), len(check_card(render_card().encode()))) == (9, 17)
    assert "card" in watcher.stages
    again = run(recipe, Seen(), fresh=True)
    assert "tokens for training" in parse_card((again.package.folder / "DATASET.md").read_bytes())[0].preprocessing[-1]
    file.write_text(written := render_card(Card(description="Mine.")))
    run(recipe, Seen(), fresh=True)
    assert file.read_text() == written


def test_a_recipe_that_is_data_itself_is_not_written_to(make_folder: MakeRecipe) -> None:
    recipe = make_folder(tokens=128).model_copy(update={"data": ("DATASET.md", "data")})
    (recipe.folder / "DATASET.md").write_text(render_card())
    run(recipe)
    assert (recipe.folder / "DATASET.md").read_text() == render_card()


def test_a_filled_in_card_makes_it_ready_to_pack(make_folder: MakeRecipe) -> None:
    recipe = make_folder(tokens=128).model_copy(update={"authors": ("Ada",), "data_licence": "CC0-1.0"})
    card = Card(
        description="Sentences.", source="Made up.", collected="2026", acknowledgements="None.", contact_name="Ada",
        contact_email="ada@example.org", contact_affiliation="None",
    )  # fmt: skip
    (recipe.folder / "DATASET.md").write_text(render_card(card))
    trained = run(recipe)
    assert trained.package.faults == ()
    assert check_source(trained.package.folder).licence.data == "CC0-1.0"


def test_ctrl_c_saves_and_resume_goes_on_to_the_same_model(make_folder: MakeRecipe) -> None:
    recipe = make_folder()
    straight = weights(run(recipe))
    watcher = Seen(stop_at=7)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, watcher, fresh=True)
    assert watcher.stages["stopped"] == "saved at step 7; go on with --resume"
    with pytest.raises(ConflictError, match=r"unfinished training .* at step 7"):
        run(recipe)
    again = Seen()
    assert weights(run(recipe, again, resume=True)) == straight
    assert again.steps == list(range(8, 21))
    assert [note["step"] for note in read_metrics(recipe.folder.parent / "recipe-training/metrics.jsonl")] == [
        1,
        10,
        20,
        20,
    ]


def weights(trained: Trained) -> bytes:
    return (trained.package.folder / "huggingface/model.safetensors").read_bytes()


def test_a_finished_training_goes_on_when_given_more(make_folder: MakeRecipe) -> None:
    run(make_folder())
    watcher = Seen()
    assert run(make_folder(tokens=3072), watcher, resume=True).progress.tokens == 3072
    assert watcher.steps == [21, 22, 23, 24]


def test_a_token_file_that_is_gone_is_told_made_anew_and_the_training_goes_on(make_folder: MakeRecipe) -> None:
    run(make_folder(tokens=1280))
    lost = make_folder().folder.parent / "recipe-training" / "train-00000.tokens"
    before = lost.read_bytes()
    lost.unlink()
    watcher = Seen()
    assert run(make_folder(tokens=2560), watcher, resume=True).progress.tokens == 2560
    assert watcher.stages["reading"].startswith("train-00000.tokens is missing in ")
    assert watcher.stages["resumed"] == "at step 10"
    assert lost.read_bytes() == before


def test_resume_without_a_checkpoint_or_with_another_recipe_is_refused(make_folder: MakeRecipe) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint"):
        run(make_folder(tokens=128), resume=True)
    run(make_folder(tokens=128))
    with pytest.raises(ConflictError, match="seed: 1 -> 2"):
        run(make_folder(tokens=128, seed=2), resume=True)


def test_a_folder_of_someone_else_is_not_replaced(make_folder: MakeRecipe) -> None:
    recipe = make_folder()
    (recipe.folder.parent / "recipe-model").mkdir()
    with pytest.raises(ConflictError, match="not the result of a training"):
        run(recipe)


def test_numbers_that_run_away_keep_the_last_checkpoint(
    make_folder: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_folder(save_minutes=1e-9)
    ordinary = Trainer.step

    def poisoned(self: Trainer) -> float:
        if self.progress.step == 3:
            with torch.no_grad():
                self.model.norm.weight[0] = float("nan")
        return ordinary(self)

    monkeypatch.setattr(Trainer, "step", poisoned)
    with pytest.raises(TrainingError, match="step 4") as caught:
        run(recipe)
    assert "The checkpoint of step 3 is kept." in str(caught.value.hint)
    kept = load_checkpoint(recipe.folder.parent / "recipe-training/checkpoint.pt")
    assert kept["progress"]["step"] == 3
    assert all(value.isfinite().all() for value in kept["model"].values())


def test_patience_ends_the_training_and_the_best_weights_are_exported(make_folder: MakeRecipe) -> None:
    recipe = make_folder(
        tokens=200 * 128, learning_rate=0.9, schedule="cosine", evaluate_every=2, patience=2, optimiser="adamw"
    )
    trained = run(recipe)
    assert trained.progress.step < 200
    assert trained.held_out.loss == pytest.approx(trained.progress.best, rel=1e-5)
    assert trained.progress.step - trained.progress.best_step >= 4


def test_a_disk_that_refuses_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.ones(10)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        with pytest.raises(StorageError, match=r"Writing checkpoint\.pt failed: File too large"):
            save_checkpoint(path, {"weights": torch.ones(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert load_checkpoint(path)["weights"].tolist() == [1.0] * 10
    assert [file.name for file in tmp_path.iterdir() if file.name != "home"] == ["checkpoint.pt"]


def test_a_training_outside_the_main_thread_runs_too(make_folder: MakeRecipe) -> None:
    found: list[Trained] = []
    thread = threading.Thread(target=lambda: found.append(run(make_folder(tokens=128))))
    thread.start()
    thread.join()
    assert found[0].progress.step == 1


def test_the_plan_counts_what_the_training_does(make_folder: MakeRecipe, tmp_path: Path) -> None:
    recipe = make_folder(tokens=2500)
    plan = make_plan(recipe.settings, prepare(recipe, tmp_path / "room"), "cpu")
    trained = run(recipe)
    assert (plan.parameters, plan.steps, plan.tokens) == (trained.parameters, 20, 2560)
    assert plan.epochs == pytest.approx(2560 / plan.data_tokens)
    assert plan.seconds is not None
    assert 0 < plan.seconds < 60
    assert 0.3 < plan.expected < 4


def test_a_model_that_cannot_fit_says_what_would(
    make_folder: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = make_folder(batch=64, context=512)
    data = prepare(recipe, tmp_path / "room")
    plan = make_plan(recipe.settings, data, "cpu", measure=False)
    one_part = recipe.settings.model_copy(update={"accumulate": 64})
    saved = training_bytes(recipe.settings.shape(), recipe.settings) - training_bytes(one_part.shape(), one_part)
    monkeypatch.setattr("pantry.workshop.training.plan.free_memory", lambda _: plan.memory - saved * 5 // 8)
    with pytest.raises(MemoryBudgetError, match="are missing") as caught:
        make_plan(recipe.settings, data, "cpu", measure=False)
    assert caught.value.hint == "It fits with accumulate = 4."
    monkeypatch.undo()
    with pytest.raises(MemoryBudgetError):
        check_fits(plan.__class__(**{**vars(plan), "free_memory": 1}), recipe.settings, data.vocab, "cpu")


MEMORY = """
import re, sys
from pathlib import Path
import torch
from pantry.workshop.training.loop import Trainer
from pantry.workshop.training.plan import make_plan
from pantry.workshop.training.prepare import prepare
from pantry.workshop.recipe import read_recipe
torch.set_num_threads(1)
recipe = read_recipe(Path(sys.argv[1]), {"preset": sys.argv[3], "batch": int(sys.argv[2])})
data = prepare(recipe, Path(sys.argv[1] + "-room"))
plan = make_plan(recipe.settings, data, "cpu", measure=False)
trainer = Trainer(recipe.settings, data)
for _ in range(3):
    trainer.step()
# Not getrusage: its peak is inherited from the process that started this one.
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(int(peak[1]) * 1024 / plan.memory)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("preset", "batch"), [("nano", 4), ("nano", 64), ("mini", 2)])
def test_the_plan_is_within_15_percent_of_the_peak_memory(tmp_path: Path, preset: str, batch: int) -> None:
    folder = tmp_path / "tales"
    start_flatpack(folder, "recipe")
    write_text(folder, 3000)
    words = [sys.executable, "-c", MEMORY, str(folder), str(batch), preset]
    done = subprocess.run(words, capture_output=True, check=True)
    assert float(done.stdout) == pytest.approx(1, abs=0.15)


def test_metrics_beyond_the_checkpoint_are_taken_back(tmp_path: Path) -> None:
    notes = Metrics(tmp_path / "m.jsonl", after_step=0)
    for step in (1, 2, 3):
        notes.add(step=step, tokens=step, loss=1.0)
    with (tmp_path / "m.jsonl").open("a") as file:
        file.write('{"step": 4, "to')
    Metrics(tmp_path / "m.jsonl", after_step=2)
    assert [note["step"] for note in read_metrics(tmp_path / "m.jsonl")] == [1, 2]


def test_tensorboard_shows_the_losses_and_takes_back_what_a_resume_repeats(make_folder: MakeRecipe) -> None:
    pytest.importorskip("tensorboard")
    recipe = make_folder(tensorboard=True, evaluate_every=5)
    with pytest.raises(KeyboardInterrupt):
        run(recipe, Seen(stop_at=12))
    run(recipe, resume=True)
    place = recipe.folder.parent / "recipe-training"
    assert shown(place / "tensorboard") == {
        "loss/training": [1, 10, 20], "loss/held out": [5, 10, 15, 20], "bits per byte": [5, 10, 15, 20],
    }  # fmt: skip


def shown(folder: Path) -> dict[str, list[int]]:
    """Steps of each curve in the event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {name: [event.step // 128 for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_that_is_not_there_is_told_before_the_training(
    make_folder: MakeRecipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantry.workshop.training.board.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="tensorboard = true"):
        run(make_folder(tensorboard=True))


def test_a_curve_of_nothing_is_drawn(tmp_path: Path) -> None:
    draw_losses([], tmp_path / "l.png")
    with Image.open(tmp_path / "l.png") as picture:
        assert picture.getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("text", "name"),
    [("tales", "tales"), ("Ada/My Tales!", "ada/my-tales"), ("a/b/c", "b/c"), ("...", "model"), ("/x/", "x")],
)
def test_any_folder_gives_a_name(text: str, name: str) -> None:
    assert manifest_name(text) == name
