"""The templates in examples/: their data are made, read and learned from; their cards are complete."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.assistant import make_data as chat
from examples.tales import make_data as tales
from pantry.flatpack.cards.dataset_card import check_card
from pantry.flatpack.manifest import read_manifest
from pantry.workshop.data.documents import is_conversation
from pantry.workshop.data.sources import find_files, read_documents
from pantry.workshop.recipe import read_recipe

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = {name: name for name in ("tales", "assistant", "shakespeare-char")} | {"starter": "own-starter"}
"""Folder to model. The starter's recipe makes another model than the one that ships under that name."""


@pytest.mark.parametrize(("folder_name", "name"), NAMES.items())
def test_a_template_is_whole(folder_name: str, name: str) -> None:
    folder = EXAMPLES / folder_name
    assert read_recipe(folder).name == read_manifest(folder).name == name
    assert check_card((folder / "DATASET.md").read_bytes()) == []


def test_stories_are_separate_documents(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(tales.stories(1, 20_000))
    documents = list(read_documents(find_files(tmp_path, ["t.txt"])))
    assert len(documents) > 20
    assert tales.stories(1, 20_000) == (tmp_path / "t.txt").read_text()


def test_conversations_are_read_as_such(tmp_path: Path) -> None:
    (tmp_path / "c.jsonl").write_text("".join(chat.lines(1, 20_000)))
    documents = list(read_documents(find_files(tmp_path, ["c.jsonl"])))
    assert len(documents) > 50
    assert all(is_conversation(document) for document in documents)
