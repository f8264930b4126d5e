"""The one way from a model's name or address to an installed model."""

from __future__ import annotations

from collections.abc import Callable

from pantry.core.errors import MissingExtraError
from pantry.core.paths import Paths
from pantry.store.models import InstalledModel

Progress = Callable[[int, int], None]
"""Told how many bytes came and how many are expected."""


def download_model(paths: Paths, name: str, url: str | None, progress: Progress) -> InstalledModel:
    """Fetch, verify and install a model. Blocking: call it in a thread."""
    raise MissingExtraError(f"Downloading {name}", "pull")
