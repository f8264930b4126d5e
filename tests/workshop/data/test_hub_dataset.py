"""A Hugging Face dataset as a source of documents: read from a folder or a hub, pinned, with its card and licence."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pantry.core.errors import BadFileError, MissingExtraError, UsageError
from pantry.workshop.data.documents import Turn
from pantry.workshop.data.hub_card import licence_of
from pantry.workshop.data.hub_dataset import PIN, HubDataset, PinnedDataset, pin_dataset
from pantry.workshop.data.settings import DataSettings
from pantry.workshop.data.sources import data_digest
from tests.workshop.data.hub_server import Hub, serving

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


@dataclass(frozen=True)
class Recipe:
    """A folder with a dataset in it, and settings that name it."""

    folder: Path
    settings: DataSettings

    def pin(self, room: Path, **options: bool) -> PinnedDataset:
        pinned = pin_dataset(self.settings, self.folder, room, **options)
        assert pinned is not None
        return pinned


WithDataset = Callable[..., Recipe]


@pytest.fixture
def with_dataset(tmp_path: Path) -> WithDataset:
    def make(**settings: Any) -> Recipe:
        write_dataset(tmp_path / "cats")
        return Recipe(tmp_path, DataSettings(**{"dataset": "./cats", **settings}))

    return make


def write_dataset(place: Path) -> None:
    """A folder with Parquet files and a card, as a clone from the hub has them."""
    (place / "data").mkdir(parents=True, exist_ok=True)
    texts = [f"Cat number {number} sat on the mat and then slept." for number in range(300)]
    pq.write_table(pa.table({"text": [*texts, None]}), place / "data" / "train-00000-of-00001.parquet")
    pq.write_table(pa.table({"text": ["Held back."]}), place / "data" / "test-00000-of-00001.parquet")
    (place / "README.md").write_text(CARD)


def read(recipe: Recipe, room: Path) -> list[str]:
    source = HubDataset(recipe.pin(room), recipe.folder, room)
    return [document[0].text for document in source.documents(recipe.settings.text_field)]


def test_the_rows_of_the_split_are_the_documents(with_dataset: WithDataset, tmp_path: Path) -> None:
    texts = read(with_dataset(), tmp_path / "room")
    assert len(texts) == 300
    assert texts[7] == "Cat number 7 sat on the mat and then slept."
    assert read(with_dataset(dataset_split="test"), tmp_path / "room") == ["Held back."]


def test_conversations_are_read_too(with_dataset: WithDataset, tmp_path: Path) -> None:
    recipe = with_dataset(dataset_split="test")
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    for name in ("train", "test"):
        pq.write_table(pa.table({"messages": [messages]}), recipe.folder / f"cats/data/{name}-00000-of-00001.parquet")
    source = HubDataset(recipe.pin(tmp_path / "room"), recipe.folder, tmp_path / "room")
    assert list(source.documents("text")) == [(Turn("user", "Hi"), Turn("assistant", "Hello"))]


def test_another_file_is_another_revision(with_dataset: WithDataset, tmp_path: Path) -> None:
    recipe = with_dataset()
    first = data_digest([HubDataset(recipe.pin(tmp_path / "room"), recipe.folder, tmp_path)])
    pq.write_table(pa.table({"text": ["x"]}), recipe.folder / "cats/data/test-00000-of-00001.parquet")
    assert data_digest([HubDataset(recipe.pin(tmp_path / "room"), recipe.folder, tmp_path)]) != first


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"text_field": "story"}, "has no column 'story'; it has 'text'"),
        ({"dataset_split": "later"}, "could not be read: Unknown split"),
        ({"dataset_config": "large"}, "could not be read: BuilderConfig 'large' not found"),
    ],
)
def test_what_the_dataset_has_not_is_named(
    with_dataset: WithDataset, tmp_path: Path, settings: dict[str, object], words: str
) -> None:
    with pytest.raises(BadFileError) as caught:
        read(with_dataset(**settings), tmp_path / "room")
    assert words in caught.value.message


@pytest.mark.parametrize("name", ["../other", "./../other", "./", "cats", "a/b/c", "/etc/x", "parquet", "https://x/y"])
def test_what_is_no_dataset_of_the_hub_nor_a_folder_of_the_recipe_is_refused(
    with_dataset: WithDataset, tmp_path: Path, name: str
) -> None:
    with pytest.raises(UsageError, match="dataset = "):
        with_dataset(dataset=name).pin(tmp_path / "room")


def test_a_link_out_of_the_dataset_is_refused(with_dataset: WithDataset, tmp_path: Path) -> None:
    recipe = with_dataset()
    (recipe.folder / "cats" / "more.txt").symlink_to("/etc/hostname")
    with pytest.raises(BadFileError, match="is a link"):
        recipe.pin(tmp_path / "room")


def test_offline_uses_what_was_looked_up_and_nothing_else(with_dataset: WithDataset, tmp_path: Path) -> None:
    room = tmp_path / "room"
    recipe = with_dataset(dataset="ada/cats")
    with pytest.raises(UsageError, match="ada/cats was not looked up before"):
        recipe.pin(room, offline=True)
    room.mkdir()
    pin = {"id": "ada/cats", "config": "", "split": "train", "asked": "", "revision": COMMIT, "card": CARD}
    (room / PIN).write_text(json.dumps(pin))
    assert recipe.pin(room, offline=True) == PinnedDataset(**pin)
    with pytest.raises(UsageError):
        with_dataset(dataset="ada/cats", dataset_revision="v2").pin(room, offline=True)


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
    with_dataset: WithDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pantry.workshop.data.hub_dataset.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError) as caught:
        with_dataset().pin(tmp_path / "room")
    assert "pantry-llm[datasets]" in str(caught.value.hint)


FROM_THE_HUB = """
import json, sys
from pathlib import Path
from pantry.core.errors import PantryError
from pantry.workshop.data.corpus import find_corpus
from pantry.workshop.data.encoding import Encoder, text_layout
from pantry.workshop.data.settings import DataSettings
from pantry.workshop.data.token_set import token_set

folder, room, steps = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
for settings, options in steps:
    try:
        corpus = find_corpus(folder, ["data"], DataSettings(**settings), room, **options)
        tokens = token_set(corpus, room, lambda _: Encoder(str.encode, 256, text_layout()), key={})
        print(corpus.dataset.pinned.revision, tokens.cleaned.documents)
    except PantryError as error:
        print(type(error).__name__, error.message)
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as found:
        yield found


def cats(count: int) -> dict[str, bytes]:
    content = io.BytesIO()
    pq.write_table(
        pa.table({"text": [f"Cat number {each} sat on the mat and slept." for each in range(count)]}), content
    )
    return {"README.md": CARD.encode(), "data/train-00000-of-00001.parquet": content.getvalue()}


def prepared_from(hub: str, folder: Path, *steps: tuple[dict[str, str], dict[str, bool]]) -> list[str]:
    """What each step of settings and options says, in a process of its own: the library reads its address once."""
    words = [sys.executable, "-W", "error", "-c", FROM_THE_HUB, str(folder), str(folder / "room"), json.dumps(steps)]
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(folder / "hf"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_dataset_of_the_hub_stays_at_the_commit_of_the_first_time(hub: Hub, tmp_path: Path) -> None:
    ada = {"dataset": "ada/cats"}
    first = hub.commit("ada/cats", cats(300))
    assert prepared_from(hub.url, tmp_path, (ada, {})) == [f"{first} 300"]
    assert all("ada/cats" in each for each in hub.asked)
    second = hub.commit("ada/cats", cats(400))
    before = len(hub.asked)
    assert prepared_from(hub.url, tmp_path, (ada, {}), (ada, {"offline": True})) == [f"{first} 300"] * 2
    assert not [each for each in hub.asked[before:] if "ada/cats" in each]
    assert prepared_from(hub.url, tmp_path, (ada, {"renew": True}), ({**ada, "dataset_revision": first}, {})) == [
        f"{second} 400", f"{first} 300",
    ]  # fmt: skip


@pytest.mark.slow
def test_what_the_hub_has_not_is_named(hub: Hub, tmp_path: Path) -> None:
    hub.commit("ada/cats", cats(300))
    wrong = {"dataset": "ada/cats", "dataset_revision": "v9"}
    assert prepared_from(hub.url, tmp_path, ({"dataset": "ada/dogs"}, {}), (wrong, {})) == [
        "NotFoundError There is no dataset ada/dogs, or it is not open to you.",
        "NotFoundError ada/cats has no such revision.",
    ]


@pytest.mark.slow
def test_a_hub_that_does_not_answer_is_told(tmp_path: Path) -> None:
    (said,) = prepared_from("http://127.0.0.1:9", tmp_path, ({"dataset": "ada/cats"}, {}))
    assert said.startswith("DownloadError ada/cats could not be fetched: ")
