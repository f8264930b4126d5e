"""Checkpoints: everything a training needs to go on exactly, in one file that appears when it is whole."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from pantry.core.errors import BadFileError
from pantry.core.files import staged_file, storage_errors

FORMAT = 1


class _Remembering:
    """Writes to `file` and keeps the system's error, which torch replaces by one that says nothing of the disk."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: bytes) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write `content` to `path` in one step. Raises StorageError; the file that was there stays."""
    with staged_file(path) as file:
        target = _Remembering(file)
        try:
            torch.save({"format": FORMAT, **content}, cast(IO[bytes], target))
        except RuntimeError:
            if target.error:
                raise target.error from None
            raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote; no code in the file is run. Raises BadFileError when it is damaged."""
    with storage_errors(f"Reading {path.name}"):
        file = path.open("rb")
    with file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise BadFileError(f"{path} is not a whole checkpoint: {first}", hint="Begin anew with --fresh.") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BadFileError(f"{path} is not a checkpoint of this version.", hint="Begin anew with --fresh.")
    return content
