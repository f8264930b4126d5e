"""Answers held to a schema, and schemas that cannot be held."""

import json
import time
from typing import Any

import pytest

from pantry.core.errors import EngineError, UsageError
from pantry.service.generation.output_schema import MAX_CHOICES, MAX_DEPTH, MAX_SCHEMA, OutputSchema


@pytest.mark.parametrize(
    ("schema", "text", "good"),
    [
        ({"type": "integer"}, "7", True),
        ({"type": "integer"}, "7.5", False),
        ({"type": "integer"}, "seven", False),
        (None, '{"a": 1}', True),
        (None, "[1]", False),
        ({"$ref": "#"}, "1", False),
    ],
)
def test_answer_is_checked_against_its_schema(schema: Any, text: str, good: bool) -> None:
    check = OutputSchema(schema) if schema is None else OutputSchema.parse(schema)
    if good:
        check.check(text)
    else:
        with pytest.raises(EngineError):
            check.check(text)


def refused(schema: Any) -> str:
    with pytest.raises(UsageError) as caught:
        OutputSchema.parse(schema)
    return str(caught.value)


def text_schema(pattern: str) -> Any:
    return {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}


def test_pattern_is_checked_in_linear_time() -> None:
    schema = OutputSchema.parse(text_schema("^(a+)+$"))
    schema.check(json.dumps({"a": "a" * 60}))
    with pytest.raises(EngineError, match="does not match"):
        schema.check(json.dumps({"a": "a" * 60 + "!"}))


@pytest.mark.parametrize("pattern", ["^a(?=b)c$", r"^(a)\1$", "["])
def test_pattern_that_cannot_be_checked_is_refused(pattern: str) -> None:
    assert "RE2" in refused(text_schema(pattern))


@pytest.mark.parametrize("keyword", ["patternProperties", "not", "if", "unevaluatedProperties", "contains"])
def test_keyword_that_cannot_be_enforced_is_refused_wherever_it_stands(keyword: str) -> None:
    assert keyword in refused({"type": "array", "items": {keyword: {}}})


def test_property_with_the_name_of_a_keyword_is_fine() -> None:
    OutputSchema.parse({"type": "object", "properties": {"not": {"type": "string"}, "pattern": {"type": "integer"}}})


@pytest.mark.parametrize("reference", ["#/$defs/none", "http://127.0.0.1/x", "#/x-hidden", "other", "#/$defs"])
def test_reference_to_what_is_no_part_of_the_schema_is_refused(reference: str) -> None:
    hidden = {"patternProperties": {"^(a+)+$": {}}}
    assert "outside itself" in refused({"$ref": reference, "$defs": {"a": {}}, "x-hidden": hidden})


def test_references_that_double_at_each_level_do_not_hang_the_check() -> None:
    levels = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(22)}
    schema = {"allOf": [{"$ref": "#/$defs/a0"}], "$defs": {**levels, "a22": {"type": "string"}}}
    start = time.monotonic()
    with pytest.raises(EngineError, match="more than 50000 steps"):
        OutputSchema.parse(schema).check('"x"')
    assert time.monotonic() - start < 10


def test_long_enums_are_refused() -> None:
    assert "2000 values" in refused({"enum": list(range(2000))})


def test_equal_items_are_found() -> None:
    schema = OutputSchema.parse({"type": "array", "uniqueItems": True})
    schema.check("[1, 2, [3]]")
    with pytest.raises(EngineError, match="twice"):
        schema.check('[{"a": 1, "b": 2}, {"b": 2, "a": 1}]')


NUMBER = {"type": "object", "properties": {"a": {"type": "number"}}}


@pytest.mark.parametrize("schema", [None, NUMBER], ids=["any object", "a number"])
@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_what_json_does_not_know_as_a_number_is_no_answer(schema: dict[str, Any] | None, constant: str) -> None:
    OutputSchema(schema).check('{"a": 1e3}')
    with pytest.raises(EngineError, match="is not JSON"):
        OutputSchema(schema).check(f'{{"a": {constant}}}')


def _nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"items": schema}
    return schema


@pytest.mark.parametrize(
    ("largest", "larger"),
    [
        (_nested(MAX_DEPTH), _nested(MAX_DEPTH + 1)),
        ({"title": "x" * (MAX_SCHEMA - 13)}, {"title": "x" * (MAX_SCHEMA - 12)}),
        ({"enum": list(range(MAX_CHOICES))}, {"enum": list(range(MAX_CHOICES + 1))}),
    ],
    ids=["depth", "size", "choices"],
)
def test_schema_at_its_limit_is_taken_and_one_beyond_refused(largest: dict[str, Any], larger: dict[str, Any]) -> None:
    assert OutputSchema.parse(largest).schema == largest
    with pytest.raises(UsageError, match=r"too large|at most"):
        OutputSchema.parse(larger)
