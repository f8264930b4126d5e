"""What a folder needs before it can be packed: a manifest and a DATASET.md that are filled in, and the files named."""

from __future__ import annotations

from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors
from pantry.flatpack.cards.dataset_card import check_card
from pantry.flatpack.folder import Found
from pantry.flatpack.manifest import CARD_NAME, MANIFEST_NAME, Manifest, read_manifest


def check_source(folder: Path) -> Manifest:
    """The manifest of a folder that is ready to be packed.

    Raises BadFileError that names every field still missing or in brackets, in the manifest and in DATASET.md. A card
    that is not needed but there must be filled in as well.
    """
    card = folder / CARD_NAME
    try:
        manifest = read_manifest(folder)
    except BadFileError as error:
        faults = _card_faults(card) if card.is_file() else []
        raise BadFileError("\n".join([error.message, *faults]), hint=error.hint) from None
    if not card.is_file():
        if manifest.needs_card:
            raise _no_card(manifest, folder)
    elif faults := _card_faults(card):
        raise BadFileError("\n".join(faults), hint=f"Fill in what is missing.{_way_out(manifest)}")
    return manifest


def _no_card(manifest: Manifest, folder: Path) -> BadFileError:
    return BadFileError(
        f"{folder} has no {CARD_NAME}, which says what data its {_whose(manifest)} come from.",
        hint=f"`pantry dataset new {folder / CARD_NAME}` makes one.{_way_out(manifest)}",
    )


def _whose(manifest: Manifest) -> str:
    return "data" if manifest.kind in ("recipe", "dataset") else "weights"


def _way_out(manifest: Manifest) -> str:
    """How to do without a card, for the kinds that may."""
    if manifest.kind in ("recipe", "dataset") or not manifest.needs_card:
        return ""
    return (
        f" If the data are not known, because the weights are not yours, leave {CARD_NAME} out and say so in "
        f'{MANIFEST_NAME}: under [provenance], data_unknown = "why".'
    )


def check_named_files(manifest: Manifest, folder: Path, found: list[Found]) -> None:
    """Raises BadFileError that lists every file that the manifest names and the folder lacks."""
    files = {item.path for item in found}
    wanted: list[tuple[str, str | None]] = []
    if manifest.model:
        wanted += [("model.file", manifest.model.file), ("model.chat_template", manifest.model.chat_template)]
    if manifest.recipe:
        wanted.append(("recipe.run", manifest.recipe.run))
    missing = [f"{name} = {path!r}: there is no such file." for name, path in wanted if path and path not in files]
    missing += [
        f"recipe.data = {path!r}: there is no such file or folder."
        for path in (manifest.recipe.data if manifest.recipe else ())
        if path not in files and not (folder / path).is_dir()
    ]
    if missing:
        raise BadFileError(
            "\n".join(f"{folder / MANIFEST_NAME}: {line}" for line in missing),
            hint="Put the file there, or correct the name.",
        )


def _card_faults(card: Path) -> list[str]:
    with storage_errors(f"Reading {card}"):
        return [f"{card}, line {fault.line}: {fault.message}" for fault in check_card(card.read_bytes())]
