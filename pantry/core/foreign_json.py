"""JSON from strangers: strict about what it is, bounded in depth."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

from pantry.core.errors import BadFileError, PantryError, UsageError

MAX_DEPTH = 100  # levels of nesting
Pairs = list[tuple[str, Any]]


def parse_json(raw: bytes, what: str) -> Any:
    """The value in `raw`. Raises UsageError when it is no JSON, has a key twice, NaN, or is nested too deeply.

    A key that comes twice means different things to different readers (RFC 8259, section 4), so it is no JSON here.
    """
    return _parsed(raw, what, UsageError, _without_duplicates, _refuse_constant)


def parse_file_json(raw: bytes, what: str, pairs: Callable[[Pairs], Any] | None = None) -> Any:
    """The value in the content of a file that others wrote; NaN and infinities, which makers of models write, pass.

    `pairs` sees every object on its way, keys that come twice included. Raises BadFileError when it is no JSON in
    UTF-8 or nested too deeply.
    """
    return _parsed(raw, what, BadFileError, pairs, None)


def _parsed(
    raw: bytes,
    what: str,
    error_class: type[PantryError],
    pairs: Callable[[Pairs], Any] | None,
    constant: Callable[[str], Any] | None,
) -> Any:
    try:
        value = json.loads(raw, object_pairs_hook=pairs, parse_constant=constant)
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
            _check_depth(value)
    except RecursionError:
        raise error_class(f"{what} is not JSON: nested too deeply.") from None
    except ValueError as error:
        raise error_class(f"{what} is not JSON: {error}.") from None
    return value


def _without_duplicates(pairs: Pairs) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:60]!r} comes twice")
            seen.add(key)
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise RecursionError
