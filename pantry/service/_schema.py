"""JSON that an answer must be: the schema is checked before the engine sees it, and the answer after.

Engines turn a schema into a grammar, but some forms make them fail open (facts in docs/adr/0003). So an answer that
ended by itself is parsed and validated here, and one that breaks the schema is an error, never a result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pantry.core.errors import EngineError, UsageError

MAX_SCHEMA = 65_536  # bytes of JSON
MAX_DEPTH = 32  # nested objects and arrays in a schema


@dataclass(frozen=True)
class OutputSchema:
    """The schema an answer must meet; None means any JSON object."""

    schema: dict[str, Any] | None

    @classmethod
    def parse(cls, schema: Any) -> OutputSchema:
        """Check that `schema` is a JSON Schema (2020-12) of reasonable size. Raises UsageError that names the place."""
        if not isinstance(schema, dict):
            raise UsageError(f"A JSON schema is an object; got {type(schema).__name__}.")
        if len(json.dumps(schema)) > MAX_SCHEMA or _depth(schema) > MAX_DEPTH:
            raise UsageError(f"The JSON schema is too large: at most {MAX_SCHEMA} bytes and {MAX_DEPTH} levels.")
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError

        try:
            Draft202012Validator.check_schema(schema)
        except SchemaError as error:
            where = "/".join(str(part) for part in error.path) or "its top level"
            raise UsageError(f"The JSON schema is not valid at {where}: {error.message}.") from None
        for reference in _references(schema):
            if not reference.startswith("#"):
                raise UsageError(
                    f"The JSON schema refers to {reference!r}, outside itself.", hint="Put it under $defs."
                )
        return cls(schema)

    def check(self, text: str) -> None:
        """Raises EngineError when `text` is not JSON that meets the schema."""
        try:
            value = json.loads(text)
        except ValueError as error:
            raise EngineError(f"The engine's answer is not JSON ({error}).", hint="Ask again.") from None
        if self.schema is None:
            if not isinstance(value, dict):
                raise EngineError("The engine's answer is not a JSON object.", hint="Ask again.")
            return
        problem = _first_problem(self.schema, value)
        if problem:
            raise EngineError(f"The engine's answer breaks the JSON schema: {problem}.", hint="Ask again.")


def _first_problem(schema: dict[str, Any], value: Any) -> str | None:
    import referencing
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    # A pattern from a client could make Python's matcher run for ever; the engine's grammar enforces patterns, and
    # refuses those it cannot. The empty registry keeps references from being fetched.
    validator = extend(Draft202012Validator, {"pattern": _skip, "patternProperties": _skip})  # type: ignore[no-untyped-call]
    try:
        error = next(validator(schema, registry=referencing.Registry()).iter_errors(value), None)
    except RecursionError:
        return "it refers to itself without end"
    return error.message[:300] if error else None


def _skip(*_: Any) -> None:
    return None


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level:
        deepest += 1
        if deepest > MAX_DEPTH:
            break
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return deepest


def _references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in _references(item)]
    if not isinstance(value, dict):
        return []
    own = [value[key] for key in ("$ref", "$dynamicRef") if isinstance(value.get(key), str)]
    return own + [found for item in value.values() for found in _references(item)]
