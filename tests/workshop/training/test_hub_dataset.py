"""A Hugging Face dataset as training text: read from a folder or a hub, pinned, with its card and licence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pantry.core.errors import BadFileError, MissingExtraError, UsageError
from pantry.flatpack.dataset_card import parse_card
from pantry.workshop.training.documents import Turn
from pantry.workshop.training.hub_card import licence_of
from pantry.workshop.training.hub_dataset import PIN, PinnedDataset, pin_dataset, read_dataset
from pantry.workshop.training.prepare import prepare
from tests.workshop.training.conftest import MakeRecipe
from tests.workshop.training.test_run import run

pytest.importorskip("datasets")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

CARD = """---
license: cc-by-4.0
pretty_name: Cats
---
# Dataset Card for Cats

Stories of cats.

### Source Data

Written by hand.
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def with_dataset(make_folder: MakeRecipe) -> MakeRecipe:
    """A recipe whose only data are a folder with a Parquet file and a card, as a clone from the hub has them."""

    def make(**settings: object):
        recipe = make_folder(**{"dataset": "./cats", "onnx": False, **settings})
        (recipe.folder / "data" / "text.txt").unlink(missing_ok=True)
        place = recipe.folder / "cats"
        (place / "data").mkdir(parents=True, exist_ok=True)
        texts = [f"Cat number {number} sat on the mat and then slept." for number in range(300)]
        pq.write_table(pa.table({"text": [*texts, None]}), place / "data" / "train-00000-of-00001.parquet")
        pq.write_table(pa.table({"text": ["Held back."]}), place / "data" / "test-00000-of-00001.parquet")
        (place / "README.md").write_text(CARD)
        return recipe

    return make


def read(recipe, room: Path) -> list[str]:
    pinned = pin_dataset(recipe, room)
    assert pinned is not None
    return [document[0].text for document in read_dataset(pinned, recipe.folder, room, recipe.settings.text_field)]


def test_the_rows_of_the_split_are_the_documents(with_dataset: MakeRecipe, tmp_path: Path) -> None:
    texts = read(with_dataset(), tmp_path / "room")
    assert len(texts) == 300
    assert texts[7] == "Cat number 7 sat on the mat and then slept."
    assert read(with_dataset(dataset_split="test"), tmp_path / "room") == ["Held back."]


def test_conversations_are_read_too(with_dataset: MakeRecipe, tmp_path: Path) -> None:
    recipe = with_dataset(dataset_split="test")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    for name in ("train", "test"):
        pq.write_table(pa.table({"messages": [messages]}), recipe.folder / f"cats/data/{name}-00000-of-00001.parquet")
    pinned = pin_dataset(recipe, tmp_path / "room")
    assert pinned is not None
    assert list(read_dataset(pinned, recipe.folder, tmp_path / "room", "text")) == [
        (Turn("user", "Hi"), Turn("assistant", "Hello"))
    ]


def test_licence_card_and_revision_travel_with_the_model(with_dataset: MakeRecipe) -> None:
    recipe = with_dataset(tokens=128)
    trained = run(recipe)
    facts = json.loads((trained.package.folder / "training/provenance.json").read_text())
    pinned = pin_dataset(recipe, recipe.folder)
    assert pinned is not None
    assert facts["data"]["dataset"] == {
        "id": "./cats", "config": "", "split": "train", "revision": pinned.revision, "licence": "CC-BY-4.0",
    }  # fmt: skip
    card = parse_card((trained.package.folder / "DATASET.md").read_bytes())[0]
    assert (card.name, card.licence, card.description) == ("Cats", "CC-BY-4.0", "Stories of cats.")
    assert card.source.startswith(f"./cats (Hugging Face dataset, revision {pinned.revision}, split train).")
    assert 'data = "CC-BY-4.0"' in (trained.package.folder / "flatpack.toml").read_text()


def test_another_file_is_another_revision(with_dataset: MakeRecipe, tmp_path: Path) -> None:
    recipe = with_dataset()
    first = prepare(recipe, tmp_path / "room").data_digest
    pq.write_table(pa.table({"text": ["x"]}), recipe.folder / "cats/data/test-00000-of-00001.parquet")
    assert prepare(recipe, tmp_path / "room").data_digest != first


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"text_field": "story"}, "has no column 'story'; it has 'text'"),
        ({"dataset_split": "later"}, "could not be read: Unknown split"),
        ({"dataset_config": "large"}, "could not be read: BuilderConfig 'large' not found"),
    ],
)
def test_what_the_dataset_has_not_is_named(
    with_dataset: MakeRecipe, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(BadFileError) as caught:
        read(with_dataset(**settings), tmp_path / "room")
    assert words in caught.value.message


@pytest.mark.parametrize("name", ["../other", "./../other", "./", "cats", "a/b/c", "/etc/x", "parquet", "https://x/y"])
def test_what_is_no_dataset_of_the_hub_nor_a_folder_of_the_recipe_is_refused(
    with_dataset: MakeRecipe, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="dataset = "):
        pin_dataset(with_dataset(dataset=name), tmp_path / "room")


def test_a_link_out_of_the_dataset_is_refused(with_dataset: MakeRecipe, tmp_path: Path) -> None:
    recipe = with_dataset()
    (recipe.folder / "cats" / "more.txt").symlink_to("/etc/hostname")
    with pytest.raises(BadFileError, match="is a link"):
        pin_dataset(recipe, tmp_path / "room")


def test_offline_uses_what_was_looked_up_and_nothing_else(with_dataset: MakeRecipe, tmp_path: Path) -> None:
    room = tmp_path / "room"
    recipe = with_dataset(dataset="ada/cats")
    with pytest.raises(UsageError, match="ada/cats was not looked up before"):
        pin_dataset(recipe, room, offline=True)
    room.mkdir()
    pin = {"id": "ada/cats", "config": "", "split": "train", "asked": "", "revision": COMMIT, "card": CARD}
    (room / PIN).write_text(json.dumps(pin))
    assert pin_dataset(recipe, room, offline=True) == PinnedDataset(**pin)
    with pytest.raises(UsageError):
        pin_dataset(with_dataset(dataset="ada/cats", dataset_revision="v2"), room, offline=True)


@pytest.mark.parametrize(
    ("front", "licence"),
    [
        ("license: mit", "MIT"),
        ("license: [mit, apache-2.0]", "MIT AND Apache-2.0"),
        ("license: nobody-knows", None),
        ("tags: [text]", None),
        ("license: [", None),
    ],
)
def test_only_a_licence_that_is_known_is_taken_over(front: str, licence: str | None) -> None:
    assert licence_of(PinnedDataset("a/b", "", "train", "", COMMIT, f"---\n{front}\n---\n")) == licence


def test_without_the_extra_it_says_what_to_install(
    with_dataset: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantry.workshop.training.hub_dataset.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        pin_dataset(with_dataset(), tmp_path / "room")
    assert "pantry-llm[datasets]" in str(caught.value.hint)
