"""The recipe's data as a training gets them: split, encoded, kept in the working folder, refused with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tokenizers")

from pantry.core.errors import BadFileError
from pantry.workshop.data import tokenizer as tok
from pantry.workshop.recipe import RecipeFolder, make_recipe
from pantry.workshop.training.prepare import prepare
from tests.workshop.conftest import MakeRecipe


def folder_with(tmp_path: Path, text: str, **settings: object) -> RecipeFolder:
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "a.txt").write_text(text)
    recipe = make_recipe({"context": 16, **settings})
    return RecipeFolder(folder=tmp_path, name="t", data=("data",), settings=recipe)


def test_few_texts_hold_out_their_ends(tmp_path: Path) -> None:
    lines = "".join(f"line {number}\n" for number in range(200))
    prepared = prepare(folder_with(tmp_path, lines, tokenizer="bytes"), tmp_path / "room")
    held_out = prepared.tokenizer.decode(prepared.validation.ids.tolist())
    assert held_out.startswith("line 19")
    assert held_out.endswith("line 199")
    assert prepared.validation_bytes == len(held_out)
    assert "line 199" not in prepared.tokenizer.decode(prepared.train.ids.tolist())


def test_many_documents_hold_out_whole_ones(tmp_path: Path) -> None:
    texts = [f"document {number}." for number in range(300)]
    prepared = prepare(folder_with(tmp_path, "\n<|endoftext|>\n".join(texts)), tmp_path / "room")
    both = [
        set(prepared.tokenizer.decode(part.ids.tolist(), skip_special_tokens=False).split(tok.END_OF_TEXT)[1:])
        for part in (prepared.train, prepared.validation)
    ]
    assert both[0] | both[1] == set(texts)
    assert not both[0] & both[1]
    assert 5 <= len(both[1]) <= 30


def test_data_are_prepared_again_only_when_they_or_their_settings_change(tmp_path: Path) -> None:
    room, text = tmp_path / "room", "one two three\n" * 40
    prepare(folder_with(tmp_path, text), room)
    before = (room / "train-00000.tokens").stat().st_mtime_ns
    prepare(folder_with(tmp_path, text, learning_rate=0.5), room)
    assert (room / "train-00000.tokens").stat().st_mtime_ns == before
    prepare(folder_with(tmp_path, text, vocab=270), room)
    assert (room / "train-00000.tokens").stat().st_mtime_ns > before
    assert (
        prepare(folder_with(tmp_path, text + "four"), room).data_digest
        != prepare(folder_with(tmp_path, text), room).data_digest
    )


def test_what_was_left_out_and_blanked_is_known_the_second_time_too(tmp_path: Path) -> None:
    texts = ["a first text of mine", "mail me@home.org", "a first text of mine", "z"] + [f"line {n}" for n in range(20)]
    folder = folder_with(tmp_path, "\n<|endoftext|>\n".join(texts), min_characters=2, scrub="emails")
    first, second = (prepare(folder, tmp_path / "room").cleaned for _ in range(2))
    assert second == first
    assert first.sentences() == [
        "left out 1 document: shorter than 2 characters",
        "left out 1 document: the same as an earlier one",
        "blanked out 1 email",
    ]


@pytest.mark.parametrize(("text", "words"), [("", "The files are empty."), ("a\n", "left out 1 document")])
def test_data_without_text_are_refused_with_the_reason(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.txt").write_text(text)
    recipe = RecipeFolder(
        folder=tmp_path, name="x", data=("data",), settings=make_recipe({"min_characters": 5, "context": 16})
    )
    with pytest.raises(BadFileError, match="hold no text") as caught:
        prepare(recipe, tmp_path / "room")
    assert words in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "no text"), ("\n\n", "no text"), ("One line.", "too few: .* a context of 16 needs at least 17")],
)
def test_too_little_text_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(BadFileError, match=words):
        prepare(folder_with(tmp_path, text), tmp_path / "room")


def test_a_recipe_with_parquet_is_prepared(make_folder: MakeRecipe, tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    recipe = make_folder(text_field="story")
    (recipe.folder / "data" / "text.txt").unlink()
    stories = pa.table({"story": [f"Story number {n} of the cat." for n in range(300)]})
    pq.write_table(stories, recipe.folder / "data" / "data.parquet")
    prepared = prepare(recipe, tmp_path / "room")
    assert prepared.cleaned.documents == 300
    assert "Story number" in prepared.tokenizer.decode(prepared.train.ids[:200].tolist())
