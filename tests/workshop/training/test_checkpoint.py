"""Checkpoints: whole or refused, and never a way to run code."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch

from pantry.core.errors import BadFileError
from pantry.workshop.training.checkpoint import FORMAT, load_checkpoint, save_checkpoint


class _Planted:
    """What makes the file `mark` when a pickle of it is read as code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return open, (str(self.mark), "w")


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    content = {"step": 3, "weights": {"a": torch.arange(4.0)}}
    save_checkpoint(tmp_path / "c.pt", content)
    found = load_checkpoint(tmp_path / "c.pt")
    assert found["step"] == 3
    torch.testing.assert_close(found["weights"], content["weights"])


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    torch.save({"format": FORMAT, "step": _Planted(mark)}, tmp_path / "c.pt")
    with pytest.raises(BadFileError, match="not a whole checkpoint"):
        load_checkpoint(tmp_path / "c.pt")
    assert not mark.exists()


@pytest.mark.parametrize("content", [{"step": 1}, {"format": FORMAT + 1}, [FORMAT]])
def test_what_another_version_wrote_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(BadFileError, match="not a checkpoint of this version"):
        load_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("part", [0, 0.5, 0.99])
def test_a_cut_checkpoint_is_refused(tmp_path: Path, part: float) -> None:
    file = tmp_path / "c.pt"
    save_checkpoint(file, {"weights": torch.zeros(1000)})
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * part)])
    with pytest.raises(BadFileError, match="not a whole checkpoint"):
        load_checkpoint(file)
