"""JSON from strangers: strict about what it is, bounded in depth."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from pantry.core.errors import BadFileError, PantryError, UsageError

MAX_DEPTH = 100  # levels of nesting
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
Pairs = list[tuple[str, Any]]


def parse_json(raw: bytes, what: str) -> Any:
    """The value in `raw`, as RFC 8259 has it: UTF-8 without a byte order mark, finite numbers.

    A key that comes twice means different things to different readers (section 4), and so does half a surrogate pair
    (section 8.2), so neither is JSON here. Raises UsageError, also for what is nested too deeply.
    """
    return _guarded(raw, what, UsageError, _strictly)


def parse_file_json(raw: bytes, what: str, pairs: Callable[[Pairs], Any] | None = None) -> Any:
    """The value in the content of a file that others wrote; NaN and infinities, which makers of models write, pass.

    `pairs` sees every object on its way, keys that come twice included. Raises BadFileError when it is not JSON in
    UTF-8 or nested too deeply.
    """
    return _guarded(raw, what, BadFileError, lambda raw: json.loads(raw, object_pairs_hook=pairs))


def _strictly(raw: bytes) -> Any:
    value = _STRICT.decode(raw.decode())
    if _HALF_PAIR.search(raw):  # part of a whole pair, as a rule
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a surrogate pair is not text") from None
    return value


def _guarded(raw: bytes, what: str, error_class: type[PantryError], parse: Callable[[bytes], Any]) -> Any:
    try:
        value = parse(raw)
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
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(f"{text[:20]} is too large a number")


_STRICT = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant, parse_float=_finite)


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
