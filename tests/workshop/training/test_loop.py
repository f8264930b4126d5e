"""The loop: it learns, repeats itself bit by bit, goes on exactly, and stops when the numbers run away."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from pantry.core.errors import BadFileError, ConflictError, MemoryBudgetError, TrainingError, UsageError
from pantry.workshop.recipe import make_recipe
from pantry.workshop.shape import Shape
from pantry.workshop.training.loop import Trainer, choose_device
from pantry.workshop.training.model import Llama, build_model
from pantry.workshop.training.optimisers import ProcessorMuon, build_optimisers
from pantry.workshop.training.prepare import prepare
from pantry.workshop.training.schedule import Budget, rate
from tests.workshop.conftest import MakeRecipe

SMALL = {"vocab": 70, "width": 24, "layers": 3, "heads": 2, "kv_heads": 1, "hidden": 40, "context": 16}


@pytest.fixture
def make_trainer(make_folder: MakeRecipe, tmp_path: Path):
    def make(**settings: object) -> Trainer:
        folder = make_folder(**settings)
        return Trainer(folder.settings, prepare(folder, tmp_path / "room"))

    return make


def weights(trainer: Trainer) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in trainer.model.state_dict().items()}


@pytest.mark.parametrize("settings", [{}, {"tied": False}, {"qk_norm": True}, {"kv_heads": 2, "tied": False}])
def test_the_count_of_parameters_is_that_of_the_network(settings: dict[str, object]) -> None:
    shape = Shape(**{**SMALL, **settings})  # type: ignore[arg-type]
    model = build_model(shape, 1)
    assert sum(parameter.numel() for parameter in model.parameters()) == shape.parameters
    muon, _ = build_optimisers(model, make_recipe({}))
    assert sum(parameter.numel() for parameter in muon.param_groups[0]["params"]) == shape.matrices


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_muon_on_a_processor_is_that_of_torch(shape: tuple[int, int]) -> None:
    dice = torch.Generator().manual_seed(3)
    ours, theirs = (torch.nn.Parameter(torch.ones(shape)) for _ in range(2))
    settings = {"lr": 0.1, "weight_decay": 0.01, "adjust_lr_fn": "match_rms_adamw"}
    pair = (ProcessorMuon([ours], **settings), torch.optim.Muon([theirs], **settings))
    for number in range(4):
        ours.grad = theirs.grad = torch.randn(shape, generator=dice)
        for optimiser in pair:
            optimiser.step()
        assert (ours - theirs).norm() < 0.03 * (theirs - 1).norm()  # bfloat16 has 8 bits
        if number == 1:  # a checkpoint of one goes on in the other
            pair[0].load_state_dict(copy.deepcopy(pair[1].state_dict()))
    assert pair[0].state_dict().keys() == pair[1].state_dict().keys()


def test_a_token_sees_nothing_after_itself() -> None:
    model = build_model(Shape(50, 16, 2, 2, 1, 32, 16), 1)
    first = torch.randint(50, (1, 12))
    second = first.clone()
    second[0, 8:] = (second[0, 8:] + 1) % 50
    torch.testing.assert_close(model(first)[0, :8], model(second)[0, :8])
    assert not torch.allclose(model(first)[0, 8:], model(second)[0, 8:])


@pytest.mark.parametrize(
    "settings", [{}, {"optimiser": "adamw"}, {"precision": "bf16"}, {"qk_norm": True, "tied": False}]
)
def test_the_loss_falls(make_trainer, settings: dict[str, object]) -> None:
    trainer = make_trainer(learning_rate=0.01, **settings)
    before = trainer.evaluate()
    for _ in range(20):
        trainer.step()
    after = trainer.evaluate()
    assert after.loss < before.loss - 1
    assert after.bits_per_byte < before.bits_per_byte


@pytest.mark.parametrize("size", [float("inf"), float("nan")])
def test_a_gradient_that_is_not_finite_is_not_learnt_from(
    make_trainer, monkeypatch: pytest.MonkeyPatch, size: float
) -> None:
    trainer = make_trainer()
    before = weights(trainer)

    def gradients() -> float:
        for parameter in trainer.model.parameters():
            parameter.grad = torch.full_like(parameter, size)
        return 1.0

    monkeypatch.setattr(trainer, "_gradients", gradients)
    with pytest.raises(TrainingError, match=r"ran away at step 1: the loss is 1\.0, the gradient (inf|nan)"):
        trainer.step()
    assert weights(trainer) == before


def test_twenty_steps_equal_ten_a_checkpoint_and_ten_more(make_trainer, tmp_path: Path) -> None:
    straight, first, second = make_trainer(), make_trainer(), make_trainer()
    losses = [straight.step() for _ in range(20)]
    again = [first.step() for _ in range(10)]
    first.save(tmp_path / "checkpoint.pt")
    second.resume(tmp_path / "checkpoint.pt")
    again += [second.step() for _ in range(10)]
    assert again == losses
    assert weights(second) == weights(straight)
    assert (second.progress.step, second.progress.tokens) == (20, 2560)
    assert second.done == 1.0


def test_the_size_of_the_token_files_changes_nothing(make_trainer, tmp_path: Path) -> None:
    one, many = make_trainer(), make_trainer(shard_tokens=1000)
    assert len(list((tmp_path / "room").glob("train-*.tokens"))) > 5
    assert [many.step() for _ in range(3)] == [one.step() for _ in range(3)]
    many.save(tmp_path / "checkpoint.pt")
    again = make_trainer()
    again.resume(tmp_path / "checkpoint.pt")
    assert again.step() == many.step() == one.step()


def test_another_seed_gives_another_model(make_trainer) -> None:
    assert make_trainer(seed=2).step() != make_trainer(seed=3).step()


def test_a_batch_in_parts_is_the_same_batch(make_trainer) -> None:
    whole, parts = make_trainer(), make_trainer(accumulate=4)
    assert [whole.step() for _ in range(3)] == pytest.approx([parts.step() for _ in range(3)], rel=1e-4)


def test_what_others_say_counts_little(make_trainer, tmp_path: Path) -> None:
    data = tmp_path / "recipe" / "data"
    data.mkdir(parents=True)
    turns = [
        {"messages": [{"role": "user", "content": f"OnStep {n}"}, {"role": "assistant", "content": f"{n}!"}]}
        for n in range(300)
    ]
    (data / "chat.jsonl").write_text("\n".join(map(json.dumps, turns)))
    trainer = make_trainer(learning_rate=0.01)
    assert trainer.data.chat
    assert trainer.data.train.own is not None
    assert 0 < trainer.data.train.own.sum() < 0.5 * len(trainer.data.train)
    before = trainer.evaluate().loss
    for _ in range(10):
        trainer.step()
    assert trainer.evaluate().loss < before


def test_a_changed_recipe_is_refused_with_what_differs(make_trainer, make_folder: MakeRecipe, tmp_path: Path) -> None:
    make_trainer().save(tmp_path / "checkpoint.pt")
    changed = make_trainer(width=64, seed=9, tokens=9999, save_minutes=9)
    with pytest.raises(ConflictError) as caught:
        changed.resume(tmp_path / "checkpoint.pt")
    assert caught.value.message.splitlines()[1:] == ["  width: 32 -> 64", "  seed: 1 -> 9"]


def test_changed_data_are_refused(make_trainer, tmp_path: Path) -> None:
    make_trainer().save(tmp_path / "checkpoint.pt")
    with (tmp_path / "recipe" / "data" / "text.txt").open("a") as file:
        file.write("One more.\n")
    with pytest.raises(ConflictError, match="the data: sha256"):
        make_trainer().resume(tmp_path / "checkpoint.pt")


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text"])
def test_a_damaged_checkpoint_is_refused(make_trainer, tmp_path: Path, damage: str) -> None:
    path = tmp_path / "checkpoint.pt"
    make_trainer().save(path)
    content = path.read_bytes()
    half = len(content) // 2
    damaged = {"cut": content[:half], "flipped": b"\xff" * 99 + content[99:], "empty": b"", "text": b"hello"}[damage]
    path.write_bytes(damaged)
    with pytest.raises(BadFileError, match="checkpoint"):
        make_trainer().resume(path)


def test_a_training_that_runs_away_stops_with_its_step(make_trainer) -> None:
    trainer = make_trainer()
    trainer.step()
    before = weights(trainer)
    with torch.no_grad():
        trainer.model.norm.weight[0] = float("inf")
    with pytest.raises(TrainingError, match="ran away at step 2"):
        trainer.step()
    assert trainer.progress.step == 1
    changed = {name for name, value in weights(trainer).items() if value != before[name]}
    assert changed == {"norm.weight"}


def test_too_large_a_batch_says_what_to_do(make_trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = make_trainer(batch=4)
    monkeypatch.setattr(trainer.model, "forward", lambda ids: torch.empty(1 << 60))
    with pytest.raises(MemoryBudgetError, match="memory is used up"):
        trainer.step()


def test_compiling_without_a_compiler_is_refused(make_trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        make_trainer(compile="on")
    make_trainer(compile="auto").step()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="needs a C++ compiler")
def test_a_compiled_network_learns_the_same(make_trainer) -> None:
    plain, compiled = (make_trainer(compile=how, layers=1, optimiser="adamw") for how in ("off", "on"))
    assert [compiled.step() for _ in range(3)] == pytest.approx([plain.step() for _ in range(3)], rel=1e-4)
    assert compiled.evaluate().loss == pytest.approx(plain.evaluate().loss, rel=1e-4)


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UsageError, match="'gpu'"):
        choose_device("gpu")
    assert choose_device("cpu") == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="There is: cpu"):
            choose_device("cuda")


def test_rates_rise_stay_and_fall() -> None:
    stable, cosine = make_recipe({"warm_up": 0.1}), make_recipe({"warm_up": 0.1, "schedule": "cosine"})
    assert [round(rate(stable, done), 2) for done in (0, 0.05, 0.1, 0.6, 0.8, 1)] == [0.02, 0.51, 1, 1, 0.5, 0]
    assert [round(rate(cosine, done), 2) for done in (0, 0.1, 0.55, 1)] == [0.02, 1, 0.55, 0.1]


def test_a_budget_is_used_up_by_what_comes_first() -> None:
    assert Budget(100, 1).done(50, 15) == 0.5
    assert Budget(100, 1).done(50, 45) == 0.75
    assert Budget(minutes=1).done(10**9, 90) == 1


def test_the_network_is_a_llama_by_name() -> None:
    assert list(Llama(Shape(50, 16, 1, 2, 1, 32, 16)).state_dict()) == [
        "embedding.weight", "blocks.0.attention_norm.weight", "blocks.0.attention.q.weight",
        "blocks.0.attention.k.weight", "blocks.0.attention.v.weight", "blocks.0.attention.o.weight",
        "blocks.0.ffn_norm.weight", "blocks.0.ffn.gate.weight", "blocks.0.ffn.up.weight", "blocks.0.ffn.down.weight",
        "norm.weight",
    ]  # fmt: skip
