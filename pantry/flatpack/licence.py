"""Licence names in manifests: SPDX expressions, or ids of the catalogue for licences that SPDX does not know."""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def _spdx() -> Any:
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()  # type: ignore[no-untyped-call]


@functools.cache
def _catalogue_ids() -> frozenset[str]:
    """Ids of the licences in the shipped catalogue. Only asked for names that SPDX does not know."""
    from pantry.catalogue.files import BUILTIN, catalogue_files, read_file

    loaded = (item for file in catalogue_files(BUILTIN / "licences") for item in read_file(file, "builtin"))
    return frozenset(item.entry.id for item in loaded if item.kind == "licence")


@functools.lru_cache(maxsize=1024)
def check_licence(text: str) -> str:
    """`text`, in SPDX's own spelling where SPDX knows it.

    Raises ValueError that names the part that is neither an SPDX licence, a `LicenseRef-…`, nor in the catalogue.
    """
    from license_expression import ExpressionError, LicenseSymbol

    try:
        parsed = _spdx().parse(text.strip())
    except ExpressionError as error:
        raise ValueError(f"{text!r} is not a licence expression: {error}") from None
    if parsed is None:
        raise ValueError("a licence is missing; write an SPDX expression like 'Apache-2.0' or 'CC-BY-4.0'")
    for symbol in parsed.symbols:
        known = not isinstance(symbol, LicenseSymbol) or symbol.key in _spdx().known_symbols
        if not known and not symbol.key.startswith("LicenseRef-") and symbol.key.lower() not in _catalogue_ids():
            raise ValueError(_unknown(symbol.key))
    return str(parsed.render())


def _unknown(name: str) -> str:
    from pantry.core.errors import nearest

    near = nearest(name, [*_spdx().known_symbols, *_catalogue_ids()])
    hint = f"did you mean {near!r}?" if near else "write your own as LicenseRef-NAME"
    return f"{name!r} is not a licence that SPDX or the catalogue knows; {hint}"
