"""Deltas on deltas."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from pantry.core.errors import UsageError, VerificationError
from pantry.core.progress import Progress
from pantry.workshop.delta.chain import apply_chain
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.sources import Source
from tests.formats.model_files import base_tensors, bf16, normal, read_tree, safetensors, tuned_tensors, write_folder
from tests.workshop.delta.deltas import make


@pytest.fixture
def steps(tmp_path: Path) -> list[Path]:
    """Four models, and deltas between neighbours in d0, d1, d2."""
    models = []
    for number in range(4):
        tensors = tuned_tensors(seed=number) if number else base_tensors()
        tree = {"m.safetensors": safetensors(tensors), "config.json": b"{}" * (number + 1)}
        models.append(write_folder(tmp_path / f"m{number}", tree))
    for number in range(3):
        make(models[number], models[number + 1], tmp_path / f"d{number}", name=f"step{number}")
    return models


def chain(tmp_path: Path, base: Path, names: list[str], progress: Progress | None = None) -> None:
    with ExitStack() as opened:
        source = opened.enter_context(Source.open(base))
        deltas = [opened.enter_context(DeltaFolder(tmp_path / name)) for name in names]
        apply_chain(source, deltas, tmp_path / "out", progress)


@pytest.mark.parametrize("names", [["d0", "d1", "d2"], ["d2", "d0", "d1"]])
def test_a_chain_is_rebuilt_in_whatever_order_it_is_given(tmp_path: Path, steps: list[Path], names: list[str]) -> None:
    chain(tmp_path, steps[0], names)
    assert read_tree(tmp_path / "out") == read_tree(steps[3])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp")]


def test_a_chain_may_start_in_the_middle(tmp_path: Path, steps: list[Path]) -> None:
    chain(tmp_path, steps[1], ["d2", "d1"])
    assert read_tree(tmp_path / "out") == read_tree(steps[3])


def test_a_chain_with_a_missing_link_is_refused(tmp_path: Path, steps: list[Path]) -> None:
    with pytest.raises(UsageError, match=r"What step0 builds is the base of none of the others \(step2\)"):
        chain(tmp_path, steps[0], ["d0", "d2"])
    assert not (tmp_path / "out").exists()


def test_a_chain_that_forks_is_refused(tmp_path: Path, steps: list[Path]) -> None:
    make(steps[1], steps[3], tmp_path / "other", name="other")
    with pytest.raises(UsageError, match="step1, other are each made on the result of step0"):
        chain(tmp_path, steps[0], ["d0", "d1", "other"])


def test_a_chain_on_another_base_is_refused(tmp_path: Path, steps: list[Path]) -> None:
    with pytest.raises(VerificationError, match="not the base"):
        chain(tmp_path, steps[3], ["d0", "d1"])


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


@pytest.mark.parametrize("left", [1, 2, 3])
def test_an_interrupted_chain_is_taken_up_at_the_step_it_reached(tmp_path: Path, left: int) -> None:
    """`left`: of the three steps' bytes, how many thirds were done and kept."""
    plain = normal(0, 2_000_000)
    models = []
    for number in range(4):
        tensors = {f"w{n}": ("bf16", (1_000_000,), bf16(plain[n::2] + number * 0.001)) for n in range(2)}
        models.append(write_folder(tmp_path / f"m{number}", {"m.safetensors": safetensors(tensors)}))
    for number in range(3):
        make(models[number], models[number + 1], tmp_path / f"d{number}", name=f"step{number}")
    size = (models[0] / "m.safetensors").stat().st_size

    def stop(done: int, total: int) -> None:
        assert total == 4 * size
        if done >= (left + 0.9) * size:
            raise Interrupted

    names = ["d0", "d1", "d2"]
    with pytest.raises(Interrupted):
        chain(tmp_path, models[0], names, stop)
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    chain(tmp_path, models[0], names, lambda done, _: seen.append(done))
    assert next(done for done in seen if done > size) >= (left + 0.4) * size
    assert (tmp_path / "out").read_bytes() == (models[3] / "m.safetensors").read_bytes()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp")]


def test_a_step_that_was_left_damaged_is_built_anew(tmp_path: Path, steps: list[Path]) -> None:
    with DeltaFolder(tmp_path / "d1") as delta:
        stage = tmp_path / f".tmp-delta-{delta.identity[:16]}"
        for fact in delta.table.results:
            write_folder(stage, {fact.path: bytes(fact.size)})
    chain(tmp_path, steps[0], ["d0", "d1", "d2"])
    assert read_tree(tmp_path / "out") == read_tree(steps[3])


def test_single_files_chain_too(tmp_path: Path, steps: list[Path]) -> None:
    files = [folder / "m.safetensors" for folder in steps]
    for number in range(2):
        make(files[number], files[number + 1], tmp_path / f"f{number}")
    chain(tmp_path, files[0], ["f1", "f0"])
    assert (tmp_path / "out").read_bytes() == files[2].read_bytes()
