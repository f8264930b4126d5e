"""One published flatpack as a repository tells of it: parsed once from foreign data into a frozen type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol, get_args

from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from pantry.core.refs import Digest
from pantry.flatpack.manifest import Kind, Licences, Manifest, Name
from pantry.flatpack.manifest import Version as VersionText

KINDS: tuple[str, ...] = get_args(Kind)
CATALOGUE_PATH = "catalogue/entries.json"
"""The target that holds catalogue entries; no flatpack has a path like it."""
CATALOGUE_CUSTOM = {"kind": "catalogue", "format": 1}
"""What marks that target."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class Custom(BaseModel):
    """The `custom` field of a TUF target. Keys that are not known are passed over: newer publishers may add some."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Kind
    name: Name
    version: VersionText
    summary: str = Field("", max_length=500)
    licence: Licences = Licences()
    base: tuple[Word, ...] = ()
    tags: tuple[Word, ...] = ()
    family: Word | None = None
    parameters: int | None = Field(None, gt=0)
    context: int | None = Field(None, gt=0)
    quantisation: Word | None = None
    size: int | None = Field(default=None, ge=0)
    """Bytes of the files inside."""
    capabilities: dict[Word, float] = Field(default_factory=dict)
    yanked: Word | None = None
    """Why it should not be used any more."""


class Target(Protocol):
    """A file of a repository: its path there, its length in bytes, its digest."""

    @property
    def path(self) -> str: ...
    @property
    def length(self) -> int: ...
    @property
    def digest(self) -> Digest: ...


@dataclass(frozen=True)
class CatalogueTarget:
    """The catalogue entries in a repository, in one file."""

    path: str
    length: int
    digest: Digest


@dataclass(frozen=True)
class Entry:
    """A flatpack in a repository. `path` is the target's path, `length` the bytes of the `.fpk`."""

    repository: str
    path: str
    length: int
    digest: Digest
    facts: Custom = field(repr=False)

    @property
    def name(self) -> str:
        return self.facts.name

    @property
    def version(self) -> str:
        return self.facts.version

    @property
    def memory(self) -> int | None:
        """Bytes of memory the weights take when loaded, at least: their size."""
        return self.facts.size if self.facts.kind == "model" else None


@dataclass(frozen=True)
class Snapshot:
    """What a repository says, verified. `expires` is RFC 3339; `skipped` counts targets that are not known."""

    repository: str
    root_version: int
    version: int
    expires: str
    entries: tuple[Entry, ...]
    skipped: int = 0
    catalogue: CatalogueTarget | None = None
    """The catalogue entries it offers beside its flatpacks."""


def parse_custom(content: Any) -> Custom | None:
    """The facts of a target, or None when they are not what they should be."""
    try:
        return Custom.model_validate(content)
    except ValidationError:
        return None


def custom_of(manifest: Manifest, size: int, capabilities: dict[str, float]) -> dict[str, Any]:
    """The `custom` field for a flatpack: what its manifest says, and measured scores the publisher vouches for."""
    model = manifest.model
    bases: list[str] = []
    if manifest.adapter:
        bases = [manifest.adapter.base]
    elif manifest.delta:
        bases = [base.name for base in manifest.delta.bases]
    facts = Custom(
        kind=manifest.kind,
        name=manifest.name,
        version=manifest.version,
        summary=manifest.summary,
        licence=manifest.licence,
        base=tuple(bases),
        tags=model.tags if model else (),
        family=model.family if model else None,
        parameters=model.parameters if model else None,
        context=model.context if model else None,
        quantisation=model.quantisation if model else None,
        size=size,
        capabilities=capabilities,
    )
    return facts.model_dump(mode="json", exclude_defaults=True) | {"kind": manifest.kind}


def order_of(version: str) -> tuple[int, Any]:
    """Sorts versions: PEP 440 and SemVer by their rules (pre-releases first), anything else before them, as text."""
    try:
        return 1, Version(version)
    except InvalidVersion:
        base, dash, rest = version.partition("-")
        try:
            return 1, Version(f"{base.partition('+')[0]}.dev0" if dash and rest else base)
        except InvalidVersion:
            return 0, version
