"""What a folder needs before it can be packed: a filled-in manifest, and a filled-in DATASET.md where data are used."""

from __future__ import annotations

from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors
from pantry.flatpack.dataset_card import check_card
from pantry.flatpack.manifest import CARD_NAME, Manifest, read_manifest


def check_source(folder: Path) -> Manifest:
    """The manifest of a folder that is ready to be packed.

    Raises BadFileError that names every field still missing or in brackets, in the manifest and in DATASET.md.
    """
    card = folder / CARD_NAME
    try:
        manifest = read_manifest(folder)
    except BadFileError as error:
        faults = _card_faults(card) if card.is_file() else []
        raise BadFileError("\n".join([error.message, *faults]), hint=error.hint) from None
    if manifest.needs_card and not card.is_file():
        raise BadFileError(
            f"{folder} has no {CARD_NAME}, and its weights or data come from a dataset.",
            hint=f"Make one with: pantry dataset new {card}",
        )
    if manifest.needs_card and (faults := _card_faults(card)):
        raise BadFileError("\n".join(faults), hint="Fill in what stands in brackets.")
    return manifest


def _card_faults(card: Path) -> list[str]:
    with storage_errors(f"Reading {card}"):
        return [f"{card}, line {fault.line}: {fault.message}" for fault in check_card(card.read_bytes())]
