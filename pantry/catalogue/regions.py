"""Where somebody is based: EU, or a country by its ISO 3166-1 alpha-2 code.

The table of countries is `data/iso3166.tab`, that of the tz database (public domain), as of ISO/TC 46 N1108
(2023-04-05).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from pantry.core.errors import UsageError, nearest

EU = "EU"
EU_MEMBERS = frozenset(
    [
        *("AT", "BE", "BG", "HR", "CY", "CZ", "DK", "EE", "FI", "FR", "DE", "GR", "HU", "IE"),
        *("IT", "LV", "LT", "LU", "MT", "NL", "PL", "PT", "RO", "SK", "SI", "ES", "SE"),
    ]
)  # as of 2026
_OTHERWISE = {"UK": "GB", "EL": "GR"}
"""Codes that the EU and others write for a country, and the one of ISO 3166."""
_TABLE = Path(__file__).parent / "data" / "iso3166.tab"


@lru_cache(maxsize=1)
def countries() -> dict[str, str]:
    """The English name of every country, by its code."""
    lines = _TABLE.read_text("utf-8").splitlines()
    return dict(line.split("\t") for line in lines if not line.startswith("#"))


def parse_region(text: str) -> str:
    """The code in capitals. Raises UsageError with the code that is likely meant."""
    code = text.strip().upper()
    if code == EU or code in countries():
        return code
    raise UsageError(f"{text.strip()[:40]!r} is not a region.", hint=_hint(code))


def _hint(code: str) -> str:
    otherwise = "Give EU, or a two-letter country code of ISO 3166, like US."
    if code in _OTHERWISE:
        meant = _OTHERWISE[code]
        return f"Did you mean {meant!r} ({countries()[meant]})?"
    codes = {name.upper(): each for each, name in countries().items()} | {"EUROPE": EU, "EUROPEAN UNION": EU}
    name = nearest(code, codes) if len(code) > 2 else None
    return f"Did you mean {codes[name]!r} ({name.title()})?" if name else otherwise


def _checked(text: str) -> str:
    try:
        return parse_region(text)
    except UsageError as error:
        raise ValueError(str(error).rstrip(".?")) from None


Region = Annotated[str, AfterValidator(_checked)]
"""A region as data files and rules write it."""
