"""A model of several files as a folder: read-only, of links into the verified blobs under the paths they have in it.

The links are symbolic: a hard link would change the blob's times, by which the store knows that it was not touched,
and every load would read all of it again.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from pantry.core.files import TEMPORARY_PREFIX, storage_errors
from pantry.formats.parts import PlacedPart

UNFINISHED_AGE = 3600.0  # seconds after which an unfinished folder is one that a killed process left


def link_parts(parts: Sequence[PlacedPart], folder: Path) -> None:
    """Make `folder`, which appears whole; one of that name that is there stays. Raises StorageError."""
    building = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-{secrets.token_hex(4)}")
    with storage_errors(f"Linking files in {folder}"):
        try:
            for part in parts:
                link = building / part.path
                link.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                link.symlink_to(part.place.absolute())
            for inside in _folders_in(building):
                inside.chmod(0o500)
            building.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise
        finally:
            remove_links(building)


def is_being_made(folder: Path) -> bool:
    """Whether it is an unfinished folder that another process may still be making."""
    with contextlib.suppress(OSError):
        return folder.name.startswith(TEMPORARY_PREFIX) and folder.stat().st_mtime > time.time() - UNFINISHED_AGE
    return False


def remove_links(folder: Path) -> None:
    """Remove a folder of links, if it is there. What cannot be removed now is removed with the next leftovers."""
    with contextlib.suppress(OSError):
        for inside in _folders_in(folder):
            inside.chmod(0o700)
        shutil.rmtree(folder)


def _folders_in(folder: Path) -> list[Path]:
    return [folder, *(each for each in folder.rglob("*") if each.is_dir() and not each.is_symlink())]
