import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.catalogue.files import read_content, read_file
from pantry.core.errors import BadFileError

GOOD = """[family]
id = "fox"
name = "Fox"
organisation = "Foxes"

[[model]]
id = "fox-1b"
name = "Fox 1B"
context = 2048
sources = ["background"]
checked = "2026-11-21"

[[model]]
id = "fox-2b"
name = "Fox 2B"
organisation = "Others"
sources = ["background"]
checked = "2026-11-21"
"""


def failure(tmp_path: Path, content: str, name: str = "fox.toml") -> str:
    file = tmp_path / name
    file.write_text(content)
    with pytest.raises(BadFileError) as caught:
        list(read_file(file, "overlay"))
    return caught.value.message.removeprefix(f"{tmp_path}/")


def test_models_take_family_and_maker_from_the_head(tmp_path: Path) -> None:
    (tmp_path / "fox.toml").write_text(GOOD)
    family, one, two = (each.entry for each in read_file(tmp_path / "fox.toml", "overlay"))
    assert family.id == "fox"
    assert (one.family, one.organisation, two.organisation) == ("fox", "Foxes", "Others")


def test_wrong_type_is_shown_with_file_line_and_field(tmp_path: Path) -> None:
    message = failure(tmp_path, GOOD.replace("context = 2048", 'context = "long"'))
    assert message.startswith("fox.toml:9: model 'fox-1b', field 'context'")
    assert "got 'long'" in message


def test_missing_field_is_shown_at_its_entry(tmp_path: Path) -> None:
    message = failure(tmp_path, GOOD.replace('name = "Fox 2B"\n', ""))
    assert message.startswith("fox.toml:13: model 'fox-2b', field 'name': Field required")


def test_unknown_field_is_refused(tmp_path: Path) -> None:
    assert failure(tmp_path, GOOD.replace("context =", "contxt =")).startswith(
        "fox.toml:9: model 'fox-1b', field 'contxt'"
    )


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ('checked = "2026-13-41"', "should be a date like 2026-11-21"),
        ('tags = ["coding"]', "should be capitals, digits and '_'"),
        ('base = "Fox 1B"', "should be lower-case letters, digits"),
        ('sources = ["A B"]', "should be the id of a source"),
    ],
)
def test_text_of_a_wrong_form_is_told_in_words(tmp_path: Path, field: str, expected: str) -> None:
    facts = {"sources": 'sources = ["background"]', "checked": 'checked = "2026-11-21"'} | {field.split(" ")[0]: field}
    told = failure(
        tmp_path, '[family]\nid = "f"\nname = "F"\n[[model]]\nid = "m"\nname = "M"\n' + "\n".join(facts.values())
    )
    assert expected in told
    assert "^" not in told


def test_endless_nesting_is_told_in_words(tmp_path: Path) -> None:
    assert failure(tmp_path, "[" * 100_000, "x.json") == "x.json cannot be read: it is nested too deeply."


def test_unknown_kind_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text("[[modle]]\nid = 'x'\n")
    with pytest.raises(BadFileError, match=r"x\.toml:1.*'modle'") as caught:
        list(read_file(tmp_path / "x.toml", "overlay"))
    assert "model" in str(caught.value.hint)


def test_table_in_place_of_a_list_is_refused(tmp_path: Path) -> None:
    assert "written [[model]]" in failure(tmp_path, "[model]\nid = 'x'\n")


def test_wrong_nested_field_is_named_in_full(tmp_path: Path) -> None:
    content = GOOD.replace("context = 2048", "shape = { layers = -1, kv_heads = 1, head_dim = 1 }")
    assert failure(tmp_path, content).startswith("fox.toml:9: model 'fox-1b', field 'shape.layers'")


def test_entry_without_source_is_refused(tmp_path: Path) -> None:
    assert "field 'sources'" in failure(tmp_path, GOOD.replace('sources = ["background"]\n', "", 1))


def test_source_of_a_field_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    content = GOOD.replace("context = 2048", 'fact_sources = { colour = ["background"] }')
    assert "'colour'" in failure(tmp_path, content)


@pytest.mark.parametrize("text", ["\\u001b[2J", "a\\nb", "\\u202e", "\\u009b"])
def test_text_that_could_steer_a_terminal_is_refused(tmp_path: Path, text: str) -> None:
    message = failure(tmp_path, GOOD.replace("Fox 1B", f"Fox {text} 1B"))
    assert "field 'name': Value error, control characters" in message


@pytest.mark.parametrize("content", ["[[model]\n", "= 1", "\x00"])
def test_broken_toml_is_refused(tmp_path: Path, content: str) -> None:
    assert failure(tmp_path, content).startswith("fox.toml cannot be read")


def test_broken_json_and_other_shapes_are_refused(tmp_path: Path) -> None:
    assert "cannot be read" in failure(tmp_path, "{", "x.json")
    assert "must hold a table" in failure(tmp_path, "[]", "x.json")


def test_bytes_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(BadFileError, match="cannot be read"):
        list(read_file(tmp_path / "x.toml", "overlay"))


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for name in ("x.toml", "x.json"):
        with contextlib.suppress(BadFileError):
            list(read_content(content, name, "overlay"))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["model", "id", "family"]), inner),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(document: object) -> None:
    with contextlib.suppress(BadFileError):
        list(read_content(json.dumps(document).encode(), "x.json", "overlay"))
