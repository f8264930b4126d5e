"""What a folder needs before it can be packed: a filled-in manifest, and a filled-in DATASET.md where data are used."""

from __future__ import annotations

from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors
from pantry.flatpack.dataset_card import check_card
from pantry.flatpack.manifest import CARD_NAME, Manifest, read_manifest


def check_source(folder: Path) -> Manifest:
    """The manifest of a folder that is ready to be packed.

    Raises BadFileError that names every field still missing or in brackets, in the manifest or in DATASET.md.
    """
    manifest = read_manifest(folder)
    card = folder / CARD_NAME
    if not card.is_file():
        if manifest.needs_card:
            raise BadFileError(
                f"{folder} has no {CARD_NAME}, and its weights or data come from a dataset.",
                hint=f"Make one with: pantry dataset new {card}",
            )
        return manifest
    with storage_errors(f"Reading {card}"):
        faults = check_card(card.read_bytes())
    if faults and manifest.needs_card:
        raise BadFileError("\n".join(f"{card}, line {fault.line}: {fault.message}" for fault in faults))
    return manifest
