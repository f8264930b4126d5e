"""The losses for TensorBoard, where the recipe asks for it (extra `tensorboard`)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from pantry.core.errors import MissingExtraError
from pantry.core.files import storage_errors

FOLDER = "tensorboard"
_NAMES = {"loss": "loss/training", "held_out": "loss/held out", "bits_per_byte": "bits per byte"}


class TensorBoardWriter:
    """Event files in a folder, over the tokens seen. Raises MissingExtraError without TensorBoard, StorageError."""

    def __init__(self, folder: Path, *, after_tokens: int) -> None:
        if find_spec("tensorboard") is None:
            raise MissingExtraError("tensorboard = true", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        with storage_errors(f"Writing {folder}"):
            self._writer = SummaryWriter(str(folder), purge_step=after_tokens + 1 if after_tokens else None)

    def add(self, note: dict[str, float]) -> None:
        """The losses of one note of `metrics.jsonl`."""
        for name in _NAMES.keys() & note.keys():
            self._writer.add_scalar(_NAMES[name], note[name], int(note["tokens"]))

    def close(self) -> None:
        self._writer.close()
