"""Licence expressions: `Apache-2.0`, `MIT OR GPL-3.0-or-later`, `Apache-2.0 AND LicenseRef-gemma`.

Parsed by license-expression (SPDX syntax) into a small tree; names are those of the catalogue where it knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from pantry.core.errors import UsageError

MAX_EXPRESSION = 1000  # characters


@dataclass(frozen=True)
class Term:
    """One licence; `id` is ours when `known`, else the name as written."""

    id: str
    known: bool
    exception: str | None = None


@dataclass(frozen=True)
class AllOf:
    """Every part binds (`AND`)."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True)
class AnyOf:
    """The user picks one part (`OR`)."""

    parts: tuple[Expression, ...]


Expression: TypeAlias = Term | AllOf | AnyOf


def parse_expression(text: str, names: Mapping[str, str]) -> Expression:
    """Parse `text`; `names` maps lower-case ids, SPDX ids and aliases to our ids.

    Raises UsageError with the position of the mistake when it does not parse.
    """
    plain = text.strip().lower().removeprefix("licenseref-")
    if plain in names:
        return Term(names[plain], True)
    if not text.strip() or len(text) > MAX_EXPRESSION:
        raise UsageError("A licence expression is empty or too long.", hint="Write one like: Apache-2.0 OR MIT.")
    return _name_terms(_parse(text), names)


@lru_cache(maxsize=1024)
def _parse(text: str) -> Expression:
    from license_expression import (
        AND,
        ExpressionError,
        ExpressionParseError,
        LicenseSymbol,
        LicenseWithExceptionSymbol,
        Licensing,
    )

    def build(node: object) -> Expression:
        if isinstance(node, LicenseWithExceptionSymbol):
            return Term(str(node.license_symbol.key), False, str(node.exception_symbol.key))
        if isinstance(node, LicenseSymbol):
            return Term(str(node.key), False)
        parts = tuple(build(part) for part in node.args)  # type: ignore[attr-defined]
        return AllOf(parts) if isinstance(node, AND) else AnyOf(parts)

    try:
        tree = Licensing().parse(text, simple=True)  # type: ignore[no-untyped-call]
    except ExpressionParseError as error:
        where = f" at character {error.position + 1}" if isinstance(error.position, int) and error.position >= 0 else ""
        found = f", at {error.token_string!r}" if getattr(error, "token_string", None) else ""
        raise UsageError(
            f"The licence expression {text[:100]!r} does not parse{where}{found}.",
            hint="Write one like: Apache-2.0 OR MIT. Join names with AND, OR, WITH and brackets.",
        ) from None
    except (ExpressionError, RecursionError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"The licence expression {text[:100]!r} does not parse: {str(error)[:200]}.",
            hint="Write one like: Apache-2.0 OR MIT. Join names with AND, OR, WITH and brackets.",
        ) from None
    if tree is None:
        raise UsageError("A licence expression is empty.", hint="Write one like: Apache-2.0 OR MIT.")
    return build(tree)


def _name_terms(node: Expression, names: Mapping[str, str]) -> Expression:
    if isinstance(node, Term):
        plain = node.id.lower().removeprefix("licenseref-")
        return Term(names.get(plain, node.id), plain in names, node.exception)
    parts = tuple(_name_terms(part, names) for part in node.parts)
    return AllOf(parts) if isinstance(node, AllOf) else AnyOf(parts)
