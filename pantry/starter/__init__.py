"""The starter model as package data: `starter.gguf`, made by `examples/starter`, and its card, `CARD.md`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import resources
from pathlib import Path

FILE_NAME = "starter.gguf"


def model_path() -> AbstractContextManager[Path]:
    """The GGUF file as a path on disk, for as long as the context is open."""
    return resources.as_file(resources.files(__name__).joinpath(FILE_NAME))
