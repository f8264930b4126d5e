"""Recipes: defaults from presets, faults named, what a resumed run may change."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.core.errors import BadFileError, NotFoundError, UsageError
from pantry.operations.flatpacks import start_flatpack
from pantry.workshop.data.settings import DataSettings
from pantry.workshop.recipe import PRESETS, make_recipe, read_recipe


@pytest.mark.parametrize(("preset", "millions"), [("nano", 1), ("micro", 6), ("mini", 26), ("small", 105)])
def test_a_preset_has_about_the_parameters_it_promises(preset: str, millions: int) -> None:
    recipe = make_recipe({"preset": preset})
    assert recipe.shape().parameters / 1e6 == pytest.approx(millions, rel=0.15)
    assert recipe.batch * recipe.context == recipe.step_tokens


def test_a_setting_wins_over_its_preset() -> None:
    recipe = make_recipe({"preset": "micro", "width": 64, "context": 64})
    assert (recipe.width, recipe.layers) == (64, PRESETS["micro"]["layers"])
    assert recipe.step_tokens == 8192


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"widht": 64}, ["there is no key 'widht'", "'width'"]),
        ({"width": 100, "heads": 3}, ["heads = 3 do not divide width = 100", "heads = 2"]),
        ({"heads": 4, "kv_heads": 3}, ["kv_heads = 3 do not divide heads = 4", "kv_heads = 2"]),
        ({"width": 36, "heads": 4}, ["9 wide", "even"]),
        ({"batch": 10, "accumulate": 3}, ["accumulate = 3 does not divide batch = 10"]),
        ({"preset": "nana"}, ["no preset 'nana'", "'nano'"]),
        ({"learning_rate": 0}, ["learning_rate", "greater than 0"]),
        ({"context": "long"}, ["context", "valid integer"]),
        ({"scrub": "emails, names"}, ["'names'", "emails, keys, phones"]),
        ({"min_characters": 9, "max_characters": 8}, ["max_characters = 8 is below"]),
        ({"optimiser": "sgd"}, ["optimiser", "'muon'"]),
    ],
)
def test_a_fault_is_named_with_what_would_do(settings: dict[str, object], words: list[str]) -> None:
    with pytest.raises(BadFileError) as caught:
        make_recipe(settings)
    for word in words:
        assert word in str(caught.value)


def test_the_template_of_init_trains_before_its_brackets_are_filled(tmp_path: Path) -> None:
    start_flatpack(tmp_path / "tales", "recipe")
    recipe = read_recipe(tmp_path / "tales", {"minutes": 1.0})
    assert (recipe.name, recipe.data, recipe.data_licence, recipe.authors) == ("tales", ("data",), None, ())
    assert recipe.settings.minutes == 1.0


def test_settings_of_the_manifest_are_read(tmp_path: Path) -> None:
    start_flatpack(tmp_path, "recipe")
    manifest = tmp_path / "flatpack.toml"
    text = manifest.read_text().replace("[licence of the data, like CC-BY-4.0]", "CC0-1.0")
    manifest.write_text(f'{text}\n[recipe.settings]\npreset = "micro"\nqk_norm = true\n')
    recipe = read_recipe(tmp_path)
    assert recipe.settings.qk_norm
    assert recipe.settings.layers == 6
    assert recipe.data_licence == "CC0-1.0"


@pytest.mark.parametrize("place", ["/etc", "../other", "."])
def test_data_outside_the_recipe_are_refused(tmp_path: Path, place: str) -> None:
    start_flatpack(tmp_path / "tales", "recipe")
    manifest = tmp_path / "tales" / "flatpack.toml"
    manifest.write_text(manifest.read_text().replace('data = ["data"]', f'data = ["{place}"]'))
    with pytest.raises(BadFileError, match=r"data\.0: .*[^.]\.$"):
        read_recipe(tmp_path / "tales")


def test_a_setting_outside_its_table_is_told_where_it_belongs(tmp_path: Path) -> None:
    start_flatpack(tmp_path, "recipe")
    with (tmp_path / "flatpack.toml").open("a") as file:
        file.write("width = 64\n")
    with pytest.raises(BadFileError, match="no key 'width'") as caught:
        read_recipe(tmp_path)
    assert caught.value.hint == "Settings of the training stand under [recipe.settings]."


def test_a_folder_without_a_manifest_is_told_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="pantry init"):
        read_recipe(tmp_path)


def test_another_kind_of_flatpack_is_refused(tmp_path: Path) -> None:
    start_flatpack(tmp_path, "dataset")
    with pytest.raises(UsageError, match="describes a dataset"):
        read_recipe(tmp_path)


def test_differences_leave_out_budget_and_pace() -> None:
    recipe = make_recipe({"tokens": 5, "save_minutes": 1})
    saved = {**recipe.model_dump(), "tokens": 9, "save_minutes": 2.0, "width": 64}
    assert recipe.differences(saved) == ["width: 64 -> 128"]


def test_the_budget_is_twenty_tokens_a_parameter_when_nobody_says() -> None:
    assert make_recipe({}).token_budget(1000) == 20_000
    assert make_recipe({"minutes": 1}).token_budget(1000) is None
    assert make_recipe({"tokens": 7}).token_budget(1000) == 7


def test_what_is_about_the_data_alone_is_parsed_once() -> None:
    settings = make_recipe({"languages": "en, DE", "scrub": " emails,keys ", "text_field": "story"}).data_settings
    assert (settings.languages, settings.scrub) == (("en", "de"), ("emails", "keys"))
    assert settings.text_field == "story"
    assert make_recipe({}).data_settings == DataSettings()
