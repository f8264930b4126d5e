"""Sizes, durations and foreign texts as people read them."""

from __future__ import annotations

import re
import unicodedata

from pantry.core.errors import UsageError

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "t": 1000**4}
_BINARY = {"ki": 1024, "mi": 1024**2, "gi": 1024**3, "ti": 1024**4}
MAX_BYTES = 2**62
"""The largest size: more fits no database."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?([^?#]*).*", re.DOTALL)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?")


def parse_bytes(text: str) -> int:
    """Bytes from `500`, `8GB` (powers of 1000) or `8GiB` (powers of 1024). Raises UsageError otherwise."""
    match = _SIZE.fullmatch(text.strip().lower())
    if not match:
        raise UsageError(f"{text!r} is not a size.", hint="Write it like 500MB, 8GB or 8GiB.")
    size = float(match[1]) * (_UNITS | _BINARY)[match[2] or ""]
    if size > MAX_BYTES:
        raise UsageError(f"{text[:60]!r} is larger than any size can be.", hint="Write it like 500MB, 8GB or 8GiB.")
    return int(size)


def format_bytes(count: float) -> str:
    """Bytes for people, in powers of 1000: `16.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def format_count(count: float) -> str:
    """A number of weights or tokens for people, in powers of 1000: `8.2B`, `270M`, `131k`; below 10,000 as it is."""
    if count < 10_000:
        return f"{count:.0f}"
    for factor, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if count >= 0.9995 * factor:
            return f"{count / factor:.3g}{unit}"
    return f"{count / 1000:.0f}k"


def format_rate(rate: float) -> str:
    """Tokens per second for people: `2060`, `17.3`, `0.48`."""
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def format_duration(seconds: float) -> str:
    """A duration for people: `45 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def without_secrets(text: str) -> str:
    """An address without user name, password, query and fragment, which may hold secrets; other text as it is."""
    found = _ADDRESS.fullmatch(text.strip())
    return f"{found[1]}{found[2]}" if found else text


def printable(text: str) -> str:
    """Foreign text without control characters, which a terminal could take as commands; each becomes a space."""
    return "".join(" " if unicodedata.category(char) in ("Cc", "Cf", "Cs") else char for char in text)
