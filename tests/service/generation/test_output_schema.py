"""JSON that an answer must be: what is no JSON is refused, and schemas up to their limits are taken."""

from __future__ import annotations

from typing import Any

import pytest

from pantry.core.errors import EngineError, UsageError
from pantry.service.generation.output_schema import MAX_CHOICES, MAX_DEPTH, MAX_SCHEMA, OutputSchema

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
