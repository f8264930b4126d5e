"""The rules of a policy, and reading them from a TOML document."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError, model_validator

from pantry.catalogue.regions import Region
from pantry.catalogue.rights import Circumstances
from pantry.catalogue.schema import Use
from pantry.core.errors import UsageError, did_you_mean
from pantry.core.units import parse_bytes

Mode = Literal["off", "warn", "enforce"]
Whole = Annotated[StrictInt, Field(ge=0, le=10**15)]
Score = Annotated[float, Field(strict=True, ge=0, le=10, allow_inf_nan=False)]


class Policy(BaseModel):
    """The rules of this machine. The descriptions are the documentation (docs/licences.md)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = Field("warn", description="off, warn or enforce.")
    required_use: tuple[Use, ...] = Field((), description="What every model must be allowed for, like commercial.")
    users: Whole | None = Field(None, description="Your monthly users, for licences with a limit.")
    revenue: Whole | None = Field(None, description="Your yearly revenue in USD, for licences with a limit.")
    region: Region | None = Field(None, description="EU or a two-letter country code (ISO 3166).")
    strict_data: StrictBool = Field(
        False, description="Training data without a known licence makes the answer unknown."
    )
    accepted_licences: tuple[str, ...] = Field((), description="If given, only these licences.")
    refused_licences: tuple[str, ...] = Field((), description="Never these licences.")
    accepted_families: tuple[str, ...] = Field((), description="If given, only these families of models.")
    refused_families: tuple[str, ...] = Field((), description="Never these families of models.")
    signature: Literal["when-present", "warn", "require"] = Field(
        "when-present",
        description="when-present: a signature must be right if there is one; warn: say when it is missing; "
        "require: refuse what no trusted key signed.",
    )
    minimum_evidence: dict[str, Score] = Field(
        default_factory=dict,
        description="Capability scores measured here (pantry score) that a model must reach, like coding = 2.",
    )
    unaligned: Literal["allow", "warn", "refuse"] = Field(
        "warn", description="Models without alignment, or with it taken out. Maligned ones are refused unless allow."
    )
    remote: StrictBool = Field(True, description="Whether models at a provider may be used.")
    downloads: Literal["allow", "ask", "refuse"] = Field("allow", description="Whether models may be downloaded.")
    max_download: str | None = Field(None, description="Largest download, like 20GB.")

    @model_validator(mode="after")
    def _is_consistent(self) -> Policy:
        for name in ("licences", "families"):
            both = sorted(set(getattr(self, f"accepted_{name}")) & set(getattr(self, f"refused_{name}")))
            if both:
                raise ValueError(f"accepted_{name} and refused_{name} both name {both[0]!r}: it cannot be both")
        if self.max_download is not None:
            try:
                parse_bytes(self.max_download)
            except UsageError as error:
                raise ValueError(f"max_download: {error.message.rstrip('.')}") from None
            if self.downloads == "refuse":
                raise ValueError("max_download is given, but downloads are refused: remove one of them")
        if self.minimum_evidence and self.mode == "off":
            raise ValueError("minimum_evidence is given, but the mode is off: nothing would check it")
        return self

    @property
    def circumstances(self) -> Circumstances:
        """Who asks, for the licence rules."""
        return Circumstances(self.users, self.revenue, self.region, self.strict_data)

    @property
    def download_limit(self) -> int | None:
        """Bytes of the largest download, or None."""
        return parse_bytes(self.max_download) if self.max_download is not None else None


@dataclass(frozen=True)
class Known:
    """The words that rules may use: names of licences with their ids, families, capabilities."""

    licences: Mapping[str, str]
    families: Collection[str]
    capabilities: Collection[str]


def parse_policy(document: Mapping[str, Any], name: str, known: Known) -> Policy:
    """A policy from a TOML document.

    Raises UsageError that names the file, the field and what was expected.
    """
    try:
        policy = Policy.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field_name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(field_name, Policy.model_fields, "See docs/licences.md for all rules.")
            raise UsageError(f"{name}: there is no rule {field_name!r}.", hint=hint) from None
        own = first["type"] == "value_error"  # says itself what came
        given = f", got {str(first['input'])[:60]!r}" if field_name and not own else ""
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        raise UsageError(f"{name}: {f'{field_name}: ' if field_name else ''}{message}{given}.") from None
    changes: dict[str, tuple[str, ...]] = {}
    families = {family: family for family in known.families}
    for each in ("accepted_licences", "refused_licences"):
        changes[each] = tuple(_known(text, known.licences, name, each, "licence") for text in getattr(policy, each))
    for each in ("accepted_families", "refused_families"):
        changes[each] = tuple(_known(text, families, name, each, "family") for text in getattr(policy, each))
    capabilities = {capability: capability for capability in known.capabilities}
    for capability in policy.minimum_evidence:
        _known(capability, capabilities, name, "minimum_evidence", "capability")
    return parse_consistent(policy, changes, name)


def parse_consistent(policy: Policy, changes: Mapping[str, Any], name: str) -> Policy:
    """`policy` with `changes`, checked again as a whole. Raises UsageError when it contradicts itself."""
    try:
        return Policy.model_validate(policy.model_dump() | dict(changes))
    except ValidationError as error:
        message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"{name}: {message}.") from None


def _known(text: str, names: Mapping[str, str], file: str, rule: str, noun: str) -> str:
    id = names.get(text.strip().lower())
    if id is None:
        raise UsageError(f"{file}: {rule} names the unknown {noun} {text!r}.", hint=did_you_mean(text.lower(), names))
    return id
