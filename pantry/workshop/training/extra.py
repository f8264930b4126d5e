"""Says which optional part is missing, before any work is done."""

from __future__ import annotations

from importlib.util import find_spec

from pantry.core.errors import MissingExtraError

_MODULES = ("torch", "tokenizers", "safetensors", "gguf", "PIL")


def require_training() -> None:
    """Raises MissingExtraError unless everything that training needs is installed; imports nothing."""
    if any(find_spec(name) is None for name in _MODULES):
        raise MissingExtraError("Training", "train")
