"""Parsing calls: any bytes are a call or a clear error."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import PantryError, UsageError
from pantry.core.foreign_json import MAX_DEPTH, parse_json
from pantry.service.api._compat2023_forms import choose_flex, entry_from, name_from_id, permissions_from, sampling_from
from pantry.service.native.calls import Parameters, functions, parse_call

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def test_every_function_says_what_it_does() -> None:
    assert {"handshake", "call_llm", "load_llm", "unload_llm", "download_model"} <= set(functions())
    assert all(each.doc for each in functions().values())


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_usage_error(raw: bytes) -> None:
    try:
        value = parse_json(raw, "The line")
    except UsageError:
        return
    assert json.loads(raw) == value


@pytest.mark.parametrize(("levels", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False), (50_000, False)])
def test_depth_is_bounded(levels: int, fits: bool) -> None:
    raw = b"[" * levels + b"]" * levels
    if fits:
        parse_json(raw, "The line")
    else:
        with pytest.raises(UsageError, match="nested too deeply"):
            parse_json(raw, "The line")


@pytest.mark.parametrize(("levels", "fits"), [(MAX_DEPTH, True), (MAX_DEPTH + 1, False)])
def test_depth_is_that_of_the_deepest_not_the_count_of_all(levels: int, fits: bool) -> None:
    raw = b"[" + b"[]," * 200 + b"[" * (levels - 1) + b"]" * levels
    with contextlib.nullcontext() if fits else pytest.raises(UsageError, match="nested too deeply"):
        parse_json(raw, "The line")


@given(ANYTHING, ANYTHING)
def test_any_object_is_a_call_or_a_clear_error(body: object, parameters: object) -> None:
    for given_body in (body, {"function": "handshake", "parameters": parameters}, {"function": body}):
        with contextlib.suppress(PantryError):
            assert parse_call(given_body).function.name in functions()


@given(ANYTHING)
def test_parameters_have_their_type_or_a_usage_error(value: object) -> None:
    given_parameters = Parameters("f", {"p": value})
    for read, kind in (
        (given_parameters.text, str),
        (given_parameters.texts, list),
        (given_parameters.flag, bool),
        (given_parameters.mapping, dict),
    ):
        with contextlib.suppress(UsageError):
            assert isinstance(read("p"), kind)


@given(ANYTHING, ANYTHING)
def test_forms_of_2023_take_anything_or_give_a_clear_error(one: object, other: object) -> None:
    for attempt in (
        lambda: choose_flex([], one, other),
        lambda: permissions_from(one),
        lambda: entry_from(one),
        lambda: sampling_from(one, "parameters"),
        lambda: name_from_id(str(one)),
    ):
        with contextlib.suppress(PantryError):
            attempt()
