"""A tiny recipe with its data, and a trainer for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pantry.workshop.recipe import RecipeFolder, make_recipe

TINY = {"layers": 2, "width": 32, "heads": 2, "kv_heads": 1, "hidden": 64, "context": 32, "batch": 4, "vocab": 300}
WORDS = [
    "the",
    "cat",
    "dog",
    "bird",
    "sat",
    "ran",
    "flew",
    "on",
    "under",
    "a",
    "mat",
    "roof",
    "and",
    "then",
    "it",
    "slept",
]


def write_text(folder: Path, sentences: int = 600) -> None:
    dice = random.Random(7)
    lines = (" ".join(dice.choices(WORDS, k=8)).capitalize() + "." for _ in range(sentences))
    (folder / "data").mkdir(parents=True, exist_ok=True)
    (folder / "data" / "text.txt").write_text("\n".join(lines) + "\n")


MakeRecipe = Callable[..., RecipeFolder]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeRecipe:
    """A recipe folder with some text; keyword arguments are settings over those of a tiny model."""

    def make(**settings: object) -> RecipeFolder:
        if not (tmp_path / "recipe" / "data").exists():
            write_text(tmp_path / "recipe")
        recipe = make_recipe({**TINY, "tokens": 2560, **settings})
        return RecipeFolder(folder=tmp_path / "recipe", name="tiny", data=("data",), settings=recipe)

    return make


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
