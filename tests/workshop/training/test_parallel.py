"""Several processes train one model as one process would: the same losses, one writer, exact stops and resumes."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from pantry.core.errors import UsageError
from pantry.workshop.recipe import RecipeFolder, make_recipe
from pantry.workshop.training.metrics import read_metrics
from pantry.workshop.training.parallel import Group, check_parts
from tests.workshop.conftest import TINY, write_text
from tests.workshop.training.test_run import Seen, run

SETTINGS = {**TINY, "batch": 8, "accumulate": 2, "tokens": 20 * 8 * 32, "onnx": False}
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def recipe_of(folder: Path, **settings: object) -> RecipeFolder:
    return RecipeFolder(folder=folder, name="tiny", data=("data",), settings=make_recipe({**SETTINGS, **settings}))


def train_in_two(folder: Path, stop_at: int = 0, how: str = "fresh", **settings: object) -> str:
    words = [str(folder), json.dumps({**SETTINGS, **settings}), str(stop_at), how]
    done = subprocess.run(
        [*TORCHRUN, "-m", "tests.workshop.training.parallel_worker", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def losses(folder: Path) -> list[float]:
    notes = read_metrics(folder.parent / f"{folder.name}-training" / "metrics.jsonl")
    return [note.get("loss", note.get("held_out")) for note in notes]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_file(folder.parent / f"{folder.name}-model" / "huggingface" / "model.safetensors"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_train_as_one_does_and_go_on_from_each_other(tmp_path: Path, parallel: str) -> None:
    """One with the whole batch; one that stops and two that go on; two that stop and one that goes on."""
    folder = tmp_path / "recipe"
    write_text(folder)
    run(recipe_of(folder))
    alone, alone_weights = losses(folder), weights(folder)
    assert len(alone) == 4
    with pytest.raises(KeyboardInterrupt):
        run(recipe_of(folder), Seen(stop_at=2), fresh=True)
    train_in_two(folder, how="resume", parallel=parallel)
    assert losses(folder) == pytest.approx(alone, rel=2e-5)
    for name, value in weights(folder).items():
        assert (value - alone_weights[name]).norm() / value.norm() < 0.05, name  # Muon rounds to bf16 on the way
    assert train_in_two(folder, stop_at=7, parallel=parallel).count("stopped") == 2
    run(recipe_of(folder), resume=True)
    assert losses(folder) == pytest.approx(alone, rel=2e-5)
    assert not list(tmp_path.glob(".tmp-*"))


@pytest.mark.slow
def test_processes_that_are_stopped_end_and_do_not_wait_for_each_others_locks() -> None:
    """Many stops in one pair of processes: the deadlock this once met came in one of a dozen."""
    ports = free_ports(40)
    command = [sys.executable, "-m", "tests.workshop.training.rejoin_worker"]
    pair = [subprocess.Popen([*command, str(rank), *ports], stdout=subprocess.PIPE, text=True) for rank in (0, 1)]
    try:
        assert [process.communicate(timeout=120)[0] for process in pair] == ["ended\n"] * 2
    finally:
        for process in pair:
            process.kill()


def free_ports(count: int) -> list[str]:
    """Below those that the system hands out itself, which gloo takes while it runs."""
    with contextlib.ExitStack() as sockets:
        ports: list[str] = []
        while len(ports) < count:
            port = random.randrange(20000, 30000)
            with contextlib.suppress(OSError):
                sockets.enter_context(socket.create_server(("127.0.0.1", port)))
                ports.append(str(port))
        return ports


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    recipe = make_recipe({**SETTINGS, "batch": 12})
    check_parts(recipe, Group(0, 3))
    with pytest.raises(UsageError, match=r"4 processes cannot share 6 windows") as caught:
        check_parts(recipe, Group(0, 4))
    assert caught.value.hint == "Set batch to a multiple of 8."
