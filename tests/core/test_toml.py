"""What is written is read back as it was, and what a person wrote in a file stays in it."""

import datetime
import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.toml import change_toml, dump_toml

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
PLAIN = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.dates()
)
TABLES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.dictionaries(NAMES, PLAIN | st.lists(PLAIN, max_size=3), max_size=3),
    lambda inner: st.dictionaries(NAMES, PLAIN | inner | st.lists(inner, min_size=1, max_size=3), max_size=3),
    max_leaves=6,
)


@settings(deadline=None)
@given(TABLES)
def test_what_is_written_is_read_back_the_same(table: dict[str, Any]) -> None:
    text = dump_toml(table)
    assert tomllib.loads(text) == table
    assert dump_toml(table) == text


@settings(deadline=None)
@given(TABLES, TABLES)
def test_change_gives_exactly_what_is_wanted(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert tomllib.loads(change_toml(dump_toml(before), after)) == after


@settings(deadline=None)
@given(TABLES)
def test_no_change_leaves_the_text_alone(table: dict[str, Any]) -> None:
    text = dump_toml(table)
    assert change_toml(text, table) == text


def test_nothing_is_left_out_and_tuples_are_lists() -> None:
    assert dump_toml({"a": None, "b": (1, 2), "c": {"d": None}}) == "b = [1, 2]\n\n[c]\n"


def test_plain_values_stand_before_tables_wherever_they_were() -> None:
    table = {"t": {"x": 1}, "l": [{"y": 2}], "n": 3, "day": datetime.date(2026, 1, 1)}
    assert dump_toml(table) == "n = 3\nday = 2026-01-01\n\n[t]\nx = 1\n\n[[l]]\ny = 2\n"


FILE = """\
# What we allow.  Ask Ada.
mode   = 'warn'   # until May

names = [
  "mit",  # always
  "apache-2.0",
]

# See the wiki.
[scores]
coding = 2  # out of 5
# the end
"""


def changed(**changes: Any) -> str:
    return change_toml(FILE, tomllib.loads(FILE) | changes)


def test_changed_value_keeps_the_remark_beside_it() -> None:
    assert changed(mode="off") == FILE.replace("'warn'", '"off"')


def test_new_value_stands_above_what_is_said_about_the_first_table() -> None:
    assert changed(users=5) == FILE.replace("]\n\n# See", "]\nusers = 5\n\n# See")


def test_line_ends_of_windows_stay_also_in_what_is_new() -> None:
    text = FILE.replace("\n", "\r\n")
    new = change_toml(text, tomllib.loads(FILE) | {"users": 5, "more": {"x": 1}})
    assert new.count("\r\n") == new.count("\n")
    assert tomllib.loads(new)["more"] == {"x": 1}


def test_new_value_of_a_table_stands_in_it() -> None:
    assert changed(scores={"coding": 2, "chat": 1}) == FILE + "chat = 1\n"


def test_new_item_of_a_list_leaves_the_others_as_they_are() -> None:
    text = changed(names=["mit", "apache-2.0", "bsd"])
    assert '"mit",  # always\n' in text
    assert '"bsd"' in text


def test_removed_table_leaves_its_remarks() -> None:
    text = change_toml(FILE, {"mode": "warn", "names": ["mit", "apache-2.0"]})
    assert "# See the wiki.\n" in text
    assert "# the end\n" in text


LIST = """\
# Ours.
[[each]]
name = "a"  # first

# The lab next door.
[[each]]
name = 'b'

# Far away.
[[each]]
name = 'c'
# the end
"""


def without(*names: str) -> str:
    kept = [each for each in tomllib.loads(LIST)["each"] if each["name"] not in names]
    return change_toml(LIST, {"each": kept} if kept else {})


def test_new_table_of_a_list_comes_last() -> None:
    added = {"each": [*tomllib.loads(LIST)["each"], {"name": "d"}]}
    assert change_toml(LIST, added) == LIST + '\n[[each]]\nname = "d"\n'


@pytest.mark.parametrize("gone", ["a", "b", "c", "ab", "bc", "ac", "abc"])
def test_no_remark_about_another_table_is_lost(gone: str) -> None:
    text = without(*gone)
    assert [each["name"] for each in tomllib.loads(text).get("each", ())] == [
        name for name in "abc" if name not in gone
    ]
    for remark in ("# Ours.", "# The lab next door.", "# Far away.", "# the end"):
        assert f"{remark}\n" in text


def test_table_in_the_middle_goes_and_the_rest_stays_as_it_was() -> None:
    assert without("b") == LIST.replace("[[each]]\nname = 'b'\n", "")


def test_changed_table_of_a_list_keeps_its_place_and_remark() -> None:
    tables = tomllib.loads(LIST)["each"]
    tables[0]["name"] = "z"
    assert change_toml(LIST, {"each": tables}) == LIST.replace('"a"', '"z"')


@pytest.mark.parametrize(
    "text", ['each = [{name = "a"}]\n', '[[each]]\nname = "a"\n[other]\n[[each.in]]\nx = 1\n', "a.b = 1\n"]
)
def test_unusual_forms_are_changed_as_well(text: str) -> None:
    table = {"each": [{"name": "a", "x": 1}, {"name": "b"}], "a": {"b": 2}}
    assert tomllib.loads(change_toml(text, table)) == table


@pytest.mark.parametrize("value", [[1], [], [{"y": 1}, 2], 1, {"y": 1}], ids=repr)
def test_tables_of_a_list_give_way_to_something_else(value: Any) -> None:
    text = "[[each]]\nx = 1\n\n[[each]]\nx = 2\n\n[other]  # stays\ny = 3\n"
    table = {"each": value, "other": {"y": 3}}
    assert tomllib.loads(change_toml(text, table)) == table
