"""Says which optional part is missing, before any work is done, and how torch's threads wait."""

from __future__ import annotations

import os
from importlib.util import find_spec

from pantry.core.errors import MissingExtraError

_MODULES = ("torch", "tokenizers", "safetensors", "gguf", "PIL")


def require_training() -> None:
    """Raises MissingExtraError unless everything that training needs is installed; imports nothing."""
    if any(find_spec(name) is None for name in _MODULES):
        raise MissingExtraError("Training", "train")
    _wait_asleep()


def _wait_asleep() -> None:
    """Let torch's threads sleep soon while they wait for each other; only before torch is imported.

    By default they turn in circles for milliseconds, and beside other work on the same processors each keeps the core
    from the one it waits for: a step of a small model then took ten times the processor's time.
    https://gcc.gnu.org/onlinedocs/libgomp/GOMP_005fSPINCOUNT.html
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
