"""The files of a model as an engine gets them: the one file, or a folder of its own under the service's run folder."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pantry.engines.adapter import ModelFiles
from pantry.formats.parts import PlacedPart
from pantry.store.folders import link_parts, remove_links
from pantry.store.models import InstalledModel

FOLDER = "models"


def open_files(run: Path, model: InstalledModel, parts: Sequence[PlacedPart]) -> ModelFiles:
    """The verified `parts`: one file where it lies, several as links in a new folder, which `close_files` removes.

    Raises StorageError.
    """
    files = ModelFiles(model.name, model.format, tuple(parts), facts=model.facts)
    if len(parts) == 1:
        return files
    folder = run / FOLDER / f"{model.digest.hex[:16]}-{secrets.token_hex(4)}"
    link_parts(parts, folder)
    return replace(files, folder=folder, parts=tuple(replace(part, place=folder / part.path) for part in parts))


def close_files(files: ModelFiles | None) -> None:
    """Remove the folder, if there is one; the blobs stay. No engine may have it open any more."""
    if files is not None and files.folder is not None:
        remove_links(files.folder)


def remove_leftovers(run: Path) -> None:
    """Remove the folders that a service left which was killed. Only where no other service of this home runs."""
    remove_links(run / FOLDER)
