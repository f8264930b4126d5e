"""What the card of a Hugging Face dataset tells about the data: the licence, and fields of our card."""

from __future__ import annotations

from dataclasses import replace

from pantry.core.errors import BadFileError
from pantry.flatpack.cards.dataset_card import Card
from pantry.flatpack.cards.huggingface import from_hf_card
from pantry.flatpack.licence import check_licence
from pantry.workshop.data.hub_dataset import PinnedDataset


def licence_of(dataset: PinnedDataset) -> str | None:
    """The licence that the dataset's card names, in SPDX's spelling; None when it names none that is known."""
    try:
        return check_licence(_read(dataset).licence)
    except ValueError:
        return None


def card_of(dataset: PinnedDataset) -> Card:
    """The dataset's card without what our own cleaning and reading say better; empty when it cannot be read."""
    card = _read(dataset)
    where = f"{dataset.id} (Hugging Face dataset, revision {dataset.revision}, split {dataset.split})"
    return replace(
        card, source=f"{where}. {card.source}".strip(), fields=(), target=None, preprocessing=(), sample=(), usage=(),
        licence="",
    )  # fmt: skip


def _read(dataset: PinnedDataset) -> Card:
    try:
        return from_hf_card(dataset.card.encode())
    except BadFileError:
        return Card()
