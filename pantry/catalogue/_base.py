"""What every entry of the catalogue has, and the types of its facts."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

_ID = r"^[a-z0-9][a-z0-9._+-]{0,127}$"
_DATE = r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$"
_SOURCE = r"^[a-z0-9][a-z0-9-]*(:[a-z0-9-]+)?$"
_SHA256 = r"^[0-9a-f]{64}$"
_TAG = r"^[A-Z0-9][A-Z0-9_]{0,63}$"
FORMS = {
    _ID: "lower-case letters, digits, '.', '_', '+' and '-', like qwen3-0.6b",
    _DATE: "a date like 2026-11-21, 2026-11 or 2026",
    _SOURCE: "the id of a source, like book:licences",
    _SHA256: "64 hex digits",
    _TAG: "capitals, digits and '_', like CODING",
}
"""What a text must be that has a form, in words."""
Id = Annotated[str, StringConstraints(pattern=_ID)]
Date = Annotated[str, StringConstraints(pattern=_DATE)]
"""A date as exactly as it is known: year, year and month, or the day."""
SourceRef = Annotated[str, StringConstraints(pattern=_SOURCE)]
"""The id of a source, with a chapter after a colon where it has chapters: `book:licences`."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def _harmless(text: str) -> str:
    """Refuse what could steer a terminal or turn text around: entries come from others and are printed."""
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000), AfterValidator(_harmless)
]
Sha256 = Annotated[str, StringConstraints(pattern=_SHA256)]
Tag = Annotated[str, StringConstraints(pattern=_TAG)]
Count = Annotated[int, Field(ge=0, le=10**18)]


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Entry(Frozen):
    """What every entry has: a name of its own, where its facts come from, and when they were last looked at."""

    id: Id
    name: Text
    sources: tuple[SourceRef, ...] = Field(min_length=1, description="Where the facts of this entry come from.")
    checked: Date = Field(description="When the facts were last compared with their sources.")
    fact_sources: dict[str, tuple[SourceRef, ...]] = Field(
        default_factory=dict, description="Sources of single facts, where they differ from the entry's."
    )
    notes: Text | None = None

    @model_validator(mode="after")
    def _fact_sources_name_fields(self) -> Entry:
        wrong = sorted(set(self.fact_sources) - set(type(self).model_fields))
        if wrong:
            raise ValueError(f"fact_sources names {wrong[0]!r}, which is not a field of this kind of entry")
        return self

    def source_of(self, field: str) -> tuple[str, ...]:
        """The sources of one fact."""
        return self.fact_sources.get(field, self.sources)


class Source(Frozen):
    """A document or repository that facts were taken from, in the version that was read."""

    id: Id
    title: Text
    version: Text | None = None
    date: Date | None = Field(None, description="Date of that version.")
    url: Text | None = None
    trust: Literal["first-party", "document", "registry", "secondary", "background"]
