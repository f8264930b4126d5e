"""A training on a Hugging Face dataset: what is known of it travels with the model."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("datasets")
pytest.importorskip("torch")

from pantry.flatpack.cards.dataset_card import parse_card
from pantry.workshop.data.hub_dataset import pin_dataset
from tests.workshop.conftest import MakeRecipe
from tests.workshop.data.test_hub_dataset import write_dataset
from tests.workshop.training.test_run import run


def test_licence_card_and_revision_travel_with_the_model(make_folder: MakeRecipe) -> None:
    recipe = make_folder(dataset="./cats", onnx=False, tokens=128)
    (recipe.folder / "data" / "text.txt").unlink()
    write_dataset(recipe.folder / "cats")
    trained = run(recipe)
    facts = json.loads((trained.package.folder / "training/provenance.json").read_text())
    pinned = pin_dataset(recipe.settings.data_settings, recipe.folder, recipe.folder)
    assert pinned is not None
    assert facts["data"]["dataset"] == {
        "id": "./cats", "config": "", "split": "train", "revision": pinned.revision, "licence": "CC-BY-4.0",
    }  # fmt: skip
    card = parse_card((trained.package.folder / "DATASET.md").read_bytes())[0]
    assert (card.name, card.licence, card.description) == ("Cats", "CC-BY-4.0", "Stories of cats.")
    assert card.source.startswith(f"./cats (Hugging Face dataset, revision {pinned.revision}, split train).")
    assert 'data = "CC-BY-4.0"' in (trained.package.folder / "flatpack.toml").read_text()
