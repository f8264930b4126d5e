"""Dataset cards: start, check, export and import."""

from __future__ import annotations

import json
from pathlib import Path

from pantry.core.errors import ConflictError, NotFoundError, UsageError
from pantry.core.files import storage_errors, write_atomically
from pantry.flatpack.cards.croissant import to_croissant
from pantry.flatpack.cards.dataset_card import Card, Fault, check_card, load_card, render_card
from pantry.flatpack.cards.huggingface import from_hf_card, to_hf_card
from pantry.flatpack.folder import entries_of, list_files
from pantry.flatpack.manifest import CARD_NAME, MANIFEST_NAME
from pantry.flatpack.outputs import check_output, is_croissant, is_hf_card
from pantry.flatpack.statement import Entry

_NO_DATA = frozenset({CARD_NAME, MANIFEST_NAME, "README.md", "train.sh", "model.sig", "croissant.json"})
FORMATS = ("croissant", "huggingface")


def new_card(file: Path, card: Card | None = None) -> Path:
    """Write a card to fill in. Raises ConflictError rather than overwrite."""
    target = file / CARD_NAME if file.is_dir() else file
    if target.exists() or target.is_symlink():
        raise ConflictError(f"{target} exists already.", hint="Name another file, or move it away.")
    write_atomically(target, render_card(card).encode())
    return target


def card_faults(file: Path) -> list[Fault]:
    """What is missing or unfilled in a card, by line."""
    return check_card(_read(card_file(file)))


def export_card(file: Path, form: str) -> str:
    """The card in another vocabulary: `croissant` (JSON-LD, with the data files beside the card) or `huggingface`."""
    source = card_file(file)
    card = load_card(_read(source))
    if form == "huggingface":
        return to_hf_card(card)
    if form == "croissant":
        return json.dumps(to_croissant(card, _data_files(source.parent)), indent=2, ensure_ascii=False) + "\n"
    raise UsageError(f"There is no format {form!r}.", hint=f"Known: {', '.join(FORMATS)}.")


def write_export(file: Path, form: str, out: Path) -> None:
    """Write `export_card` to `out`. Raises ConflictError rather than overwrite anything but such an export."""
    text = export_card(file, form)
    kinds = {"croissant": ("a Croissant file", is_croissant), "huggingface": ("a hub card", is_hf_card)}
    check_output(out, *kinds[form], [card_file(file)])
    write_atomically(out, text.encode())


def import_card(file: Path, out: Path) -> list[Fault]:
    """Make a card from a Hugging Face README.md; returns what is left to fill in."""
    return check_card(_read(new_card(out, from_hf_card(_read(file)))))


def card_file(file: Path) -> Path:
    """The card meant by a file or folder."""
    return file / CARD_NAME if file.is_dir() else file


def _read(file: Path) -> bytes:
    if not file.is_file():
        raise NotFoundError(f"There is no {file}.", hint="`pantry dataset new` makes a card.")
    with storage_errors(f"Reading {file}"):
        return file.read_bytes()


def _data_files(folder: Path) -> list[Entry]:
    """The files the card is about: those of `data/`, else all beside it that are not part of the flatpack's frame."""
    found = [item for item in list_files(folder) if item.path not in _NO_DATA]
    data = [item for item in found if item.path.startswith("data/")]
    return list(entries_of(folder, data or found))
