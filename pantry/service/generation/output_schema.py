"""JSON that an answer must be: the schema is checked before the engine sees it, and the answer after.

Engines turn a schema into a grammar, but some forms make them fail open (docs/adr/0004). So an answer that ended by
itself is parsed and validated here, and one that breaks the schema is an error, never a result.

A schema is a client's program, run on the service's event loop: patterns go to RE2, which needs linear time; keywords
that Python's validator would hand to its own matcher are refused; and every check has a budget of steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

from pantry.core.errors import EngineError, UsageError

MAX_SCHEMA = 32_768  # bytes of JSON
MAX_DEPTH = 32  # nested objects and arrays in a schema
MAX_CHOICES = 500  # values of all enums together; an engine's grammar grows with each
MAX_STEPS = 50_000  # keywords looked at in one check; a few tenths of a second
REFUSED = frozenset(
    {"patternProperties", "unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef", "if", "then",
     "else", "not", "contains", "propertyNames", "dependentSchemas", "$anchor", "$dynamicAnchor"}
)  # fmt: skip
"""Keywords that no engine's grammar enforces, or whose check cannot be bounded."""


@dataclass(frozen=True)
class OutputSchema:
    """The schema an answer must meet; None means any JSON object."""

    schema: dict[str, Any] | None

    @classmethod
    def parse(cls, schema: Any) -> OutputSchema:
        """Check that `schema` is a JSON Schema (2020-12) of reasonable size. Raises UsageError that names the place."""
        if not isinstance(schema, dict):
            raise UsageError(f"A JSON schema is an object; got {type(schema).__name__}.")
        if _depth(schema) > MAX_DEPTH or len(json.dumps(schema)) > MAX_SCHEMA:
            raise UsageError(f"The JSON schema is too large: at most {MAX_SCHEMA} bytes and {MAX_DEPTH} levels.")
        from jsonschema import Draft202012Validator, FormatChecker
        from jsonschema.exceptions import SchemaError

        try:
            Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
        except SchemaError as error:
            where = "/".join(str(part) for part in error.path) or "its top level"
            raise UsageError(f"The JSON schema is not valid at {where}: {error.message[:300]}.") from None
        parts = list(_parts(schema))
        known = {id(part) for part in parts}
        for part in parts:
            _check_part(schema, part, known)
        choices = sum(len(part["enum"]) for part in parts if isinstance(part.get("enum"), list))
        if choices > MAX_CHOICES:
            raise UsageError(f"The enums of the JSON schema have {choices} values; at most {MAX_CHOICES} are allowed.")
        return cls(schema)

    def check(self, text: str) -> None:
        """Raises EngineError when `text` is not JSON that meets the schema."""
        try:
            value = json.loads(text, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise EngineError(f"The engine's answer is not JSON ({error}).", hint="Ask again.") from None
        if self.schema is None:
            if not isinstance(value, dict):
                raise EngineError("The engine's answer is not a JSON object.", hint="Ask again.")
            return
        problem = _first_problem(self.schema, value)
        if problem:
            raise EngineError(f"The engine's answer breaks the JSON schema: {problem}.", hint="Ask again.")


def _check_part(whole: dict[str, Any], part: dict[str, Any], known: set[int]) -> None:
    """Refuse in one object of a schema what cannot be enforced. Raises UsageError."""
    refused = sorted(REFUSED & part.keys()) or ([] if part is whole else sorted({"$id"} & part.keys()))
    if refused:
        raise UsageError(
            f"The JSON schema uses {refused[0]!r}, which answers cannot be held to.", hint="Leave that keyword out."
        )
    if isinstance(pattern := part.get("pattern"), str) and _pattern(pattern) is None:
        raise UsageError(
            f"The pattern {pattern[:80]!r} is not one that RE2 knows.",
            hint="Look-around and back-references are not supported; see RE2's syntax.",
        )
    if isinstance(reference := part.get("$ref"), str) and id(_target(whole, reference)) not in known:
        raise UsageError(f"The JSON schema refers to {reference[:80]!r}, outside itself.", hint="Put it under $defs.")


_ONE = ("items", "additionalProperties")
_MANY = ("allOf", "anyOf", "oneOf", "prefixItems")
_NAMED = ("properties", "$defs", "definitions")


def _parts(schema: Any) -> Iterator[dict[str, Any]]:
    """The schema objects inside a schema, itself included; not what only looks like one (a property named `not`)."""
    if not isinstance(schema, dict):
        return
    yield schema
    inner = [schema.get(key) for key in _ONE]
    for key in _MANY:
        inner += schema[key] if isinstance(schema.get(key), list) else []
    for key in _NAMED:
        inner += schema[key].values() if isinstance(schema.get(key), dict) else []
    for each in inner:
        yield from _parts(each)


def _target(whole: dict[str, Any], reference: str) -> Any:
    """What a reference inside the schema (`#`, `#/$defs/x`; RFC 6901) points at; None when nothing is there."""
    if not reference.startswith("#"):
        return None
    found: Any = whole
    for step in reference[1:].split("/")[1:] if reference != "#" else ():
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


def _depth(value: Any) -> int:
    """Levels of nesting, counted no further than one beyond the limit."""
    deepest, level = 0, [value]
    while level and deepest <= MAX_DEPTH:
        deepest += 1
        level = [
            child
            for item in level
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return deepest


class _StepsUsedUpError(Exception):
    """A check looked at more keywords than it may."""


_steps: ContextVar[list[int]] = ContextVar("_steps")
"""Steps the running check has left, in a list of one."""
Keyword = Callable[[Any, Any, Any, Any], Any]


def _first_problem(schema: dict[str, Any], value: Any) -> str | None:
    """What is wrong with a value; checking stops after MAX_STEPS keywords."""
    import referencing

    _steps.set([MAX_STEPS])
    validator = _validator_class()(schema, registry=referencing.Registry())  # an empty one: nothing is ever fetched
    try:
        error = next(validator.iter_errors(value), None)
    except RecursionError:
        return "it refers to itself without end"
    except _StepsUsedUpError:
        return f"checking it takes more than {MAX_STEPS} steps"
    return str(error.message)[:300] if error else None


@cache
def _validator_class() -> Any:
    """The validator for JSON Schema 2020-12 with counted steps, RE2 patterns and quick `uniqueItems`."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    own: dict[str, Keyword] = {"pattern": _check_pattern, "uniqueItems": _check_unique}
    keywords = {name: _counted(check) for name, check in (Draft202012Validator.VALIDATORS | own).items()}
    return extend(Draft202012Validator, keywords)  # type: ignore[no-untyped-call]


def _counted(check: Keyword) -> Keyword:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Any:
        left = _steps.get()
        left[0] -= 1
        if left[0] < 0:
            raise _StepsUsedUpError
        return check(validator, value, instance, schema)

    return counted


def _check_pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    compiled = _pattern(pattern)
    if isinstance(instance, str) and (compiled is None or not compiled.search(instance)):
        yield ValidationError(f"{instance[:100]!r} does not match {pattern[:100]!r}")


def _check_unique(validator: Any, wanted: bool, instance: Any, schema: Any) -> Iterator[Any]:
    from jsonschema.exceptions import ValidationError

    if wanted and isinstance(instance, list):
        forms = {json.dumps(item, sort_keys=True) for item in instance}
        if len(forms) < len(instance):
            yield ValidationError("an array has the same item twice")


def _pattern(pattern: str) -> Any:
    """The pattern compiled by RE2, which needs time linear in the text; None when RE2 does not know it."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
