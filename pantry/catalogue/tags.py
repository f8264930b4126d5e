"""Tags and their order.

A year tag, `2023_MED`, says how strong a model was in the year it was made: BASIC, MED or ADV. A wanted year tag is
satisfied by a tag of the same or a later year and the same or a higher class; so `2023_ADV` and `2025_MED` satisfy
`2023_MED`, and `2025_BASIC` does not. Any other tag is satisfied by itself alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache

from pantry.core.errors import UsageError, did_you_mean

CLASSES = ("BASIC", "MED", "ADV")
"""Classes of a year tag, weakest first."""
MED_FROM = 4_000_000_000
ADV_FROM = 20_000_000_000
"""By total parameters: under 4 billion is BASIC, under 20 billion MED, from there on ADV. A rule of size, no verdict
on quality; a tag given by the maker of a list (GPT-4: 2023_ADV) stands."""

_YEAR_TAG = re.compile(r"(\d{4})_(BASIC|MED|ADV)")


@dataclass(frozen=True)
class YearTag:
    """A parsed year tag; `level` counts up from 0 (BASIC)."""

    year: int
    level: int

    @staticmethod
    def parse(text: str) -> YearTag | None:
        """The year tag in `text`, or None when it is another kind of tag."""
        return _parse(text)

    def satisfies(self, wanted: YearTag) -> bool:
        return self.year >= wanted.year and self.level >= wanted.level

    def __str__(self) -> str:
        return f"{self.year}_{CLASSES[self.level]}"


@lru_cache(maxsize=4096)
def _parse(text: str) -> YearTag | None:
    match = _YEAR_TAG.fullmatch(text)
    return YearTag(int(match[1]), CLASSES.index(match[2])) if match else None


def satisfied(wanted: str, held: Collection[str]) -> bool:
    """Whether a model with the tags `held` satisfies the tag `wanted`."""
    year = YearTag.parse(wanted)
    if year is None:
        return wanted in held
    return any((mine := YearTag.parse(tag)) is not None and mine.satisfies(year) for tag in held)


def year_tag_by_size(released: str | None, parameters: int | None) -> str | None:
    """The year tag that the size rule gives, or None when date or size is unknown."""
    if not released or not parameters:
        return None
    level = 0 if parameters < MED_FROM else 1 if parameters < ADV_FROM else 2
    return f"{released[:4]}_{CLASSES[level]}"


def parse_tag(text: str, known: Iterable[str]) -> str:
    """A tag in its one spelling, upper case. Raises UsageError with the nearest name for an unknown one."""
    tag = text.strip().upper().replace("-", "_").replace(" ", "_")
    names = set(known)
    if tag in names or YearTag.parse(tag):
        return tag
    examples = ["2023_BASIC", "2023_MED", "2023_ADV"] if re.match(r"\d{4}", tag) else sorted(names)
    raise UsageError(
        f"There is no tag {text.strip()[:60]!r}.",
        hint=did_you_mean(tag, examples, f"Known tags: {', '.join(sorted(names))}, and year tags like 2023_MED."),
    )
