"""Entries about licences: bare grants for each use, and the conditions that bind them."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pantry.catalogue._base import Count, Date, Entry, Frozen, Text
from pantry.catalogue.regions import Region

Use = Literal[
    "personal",
    "research",
    "commercial",
    "hosted-service",
    "modify",
    "redistribute",
    "sell-outputs",
    "train-on-outputs",
]
"""What somebody wants to do. The last two ask about what the model writes, the others about its weights."""

Verdict = Literal["allowed", "conditional", "refused", "unknown"]


class Condition(Frozen):
    """A string attached to a grant. It binds the `uses` it names.

    `limit` conditions (users, revenue) turn to `beyond` once the limit is passed; `region` conditions turn to `beyond`
    for people in `regions`. All others are duties: the use is allowed if `text` is done.
    """

    kind: Literal[
        "users",
        "revenue",
        "region",
        "attribution",
        "share-alike",
        "field-of-use",
        "acceptance",
        "naming",
        "output-training",
        "hosting",
    ]
    uses: tuple[Use, ...] = Field(min_length=1)
    text: Text
    limit: Count | None = None
    measure: Text | None = None
    regions: tuple[Region, ...] = ()
    multimodal_only: bool = False
    beyond: Verdict = "refused"

    @model_validator(mode="after")
    def _parts_fit(self) -> Condition:
        if self.kind in ("users", "revenue") and (self.limit is None or self.measure is None):
            raise ValueError(f"a condition of kind {self.kind!r} needs limit and measure")
        if self.kind == "region" and not self.regions:
            raise ValueError("a condition of kind 'region' needs regions")
        return self


class Grants(BaseModel):
    """The answer of the bare licence text for each use."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, alias_generator=lambda name: name.replace("_", "-")
    )

    personal: Verdict
    research: Verdict
    commercial: Verdict
    hosted_service: Verdict
    modify: Verdict
    redistribute: Verdict
    sell_outputs: Verdict
    train_on_outputs: Verdict

    def of(self, use: Use) -> Verdict:
        """The bare verdict on one use."""
        verdict: Verdict = getattr(self, use.replace("-", "_"))
        return verdict


class Licence(Entry):
    """A licence or set of terms, with its conditions as data. Facts, not legal advice."""

    spdx: Text | None = None
    aliases: tuple[Text, ...] = Field((), description="Other names: hub tags, common spellings.")
    kind: Literal["permissive", "copyleft", "source-available", "restricted", "service", "none"]
    subject: Literal["software", "content", "data", "hardware", "model", "service"]
    osi_approved: bool | None = None
    since: Date | None = None
    url: Text | None = None
    basis: Literal["text-read", "document", "secondary", "background"] = Field(
        description="What the verdicts rest on: the licence text, a document about it, a web page, common knowledge."
    )
    grants: Grants
    conditions: tuple[Condition, ...] = ()
