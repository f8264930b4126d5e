"""The shape of every catalogue entry. A fact without a source, or of a wrong type, does not get in.

A file under `data/` (or in an overlay folder) is TOML with one array of tables per kind of entry: `[[model]]`,
`[[licence]]`, `[[dataset]]` and so on. `[family]` at the top of a file gives its models their family and maker.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from pantry.catalogue.regions import Region

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._+-]{0,127}$")]
Date = Annotated[str, StringConstraints(pattern=r"^\d{4}(-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?)?$")]
"""A date as exactly as it is known: year, year and month, or the day."""
SourceRef = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*(:[a-z0-9-]+)?$")]
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
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Tag = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9_]{0,63}$")]
Count = Annotated[int, Field(ge=0, le=10**18)]

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
Modality = Literal["text", "image", "audio", "video", "embedding"]
Role = Literal["base", "chat", "instruct", "reasoning", "embedding", "code", "image", "audio", "refiner", "unknown"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Entry(_Frozen):
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
            raise ValueError(f"fact_sources names {wrong[0]!r}, which is no field of this kind of entry")
        return self

    def source_of(self, field: str) -> tuple[str, ...]:
        """The sources of one fact."""
        return self.fact_sources.get(field, self.sources)


class Source(_Frozen):
    """A document or repository that facts were taken from, in the version that was read."""

    id: Id
    title: Text
    version: Text | None = None
    date: Date | None = Field(None, description="Date of that version.")
    url: Text | None = None
    trust: Literal["first-party", "document", "registry", "secondary", "background"]


class Family(_Frozen):
    """A line of models of one maker; a file of models starts with it."""

    id: Id
    name: Text
    organisation: Text | None = None
    architecture: Text | None = None
    about: Text | None = None
    aliases: tuple[Text, ...] = ()


class Shape(_Frozen):
    """The figures that decide how much memory the context takes (see `pantry/formats/memory.py`)."""

    layers: Count
    kv_heads: Count
    head_dim: Count
    window: Count | None = Field(None, description="Tokens that sliding-window layers keep.")
    full_layers: Count | None = Field(None, description="Layers that keep the whole context; all of them if absent.")


class ModelFile(_Frozen):
    """One file to download, with the digest it must have."""

    repo: Text
    file: Text
    sha256: Sha256
    parts: Annotated[int, Field(ge=1)] = 1
    source: SourceRef


class Legacy(_Frozen):
    """How the 2023 registry of Pantry listed the model."""

    id: Text
    family: Text | None = None
    pre_prompt: str | None = None
    post_prompt: str | None = None
    licence_as_given: Text | None = None
    requirements: Text | None = None


class PublishedRights(_Frozen):
    """One row of the 2023 weights/data/outputs table, as published, before any correction."""

    weights: Text
    data: Text
    output: Text
    rank: int


class ModelEntry(Entry):
    """A model: what it is, who may use it how, and where to get it."""

    family: Id
    organisation: Text | None = None
    role: Role = "unknown"
    inputs: tuple[Modality, ...] = ("text",)
    outputs: tuple[Modality, ...] = ("text",)
    parameters: Count | None = Field(None, description="All weights, also those idle on a given token.")
    active_parameters: Count | None = Field(None, description="Weights that work on each token (mixture of experts).")
    context: Count | None = Field(None, description="Tokens the model was made for.")
    training_tokens: Count | None = None
    released: Date | None = None
    base: Id | None = Field(None, description="The model this one was made from.")
    licence: Text | None = Field(None, description="Licence of the weights: an id of ours or an SPDX expression.")
    weights: Literal["open", "gated", "leaked", "difference", "recipe", "unavailable", "unknown"] = "unknown"
    data: tuple[Id, ...] = Field((), description="Data sets it was trained on, as far as they are named.")
    data_openness: Literal["public", "partial", "named", "undisclosed", "unknown"] = "unknown"
    hub_repo: Text | None = None
    gguf_repos: tuple[Text, ...] = ()
    files: tuple[ModelFile, ...] = ()
    url: Text | None = None
    download_bytes: Count | None = Field(None, description="Size of a 4-bit file.")
    ram_bytes: Count | None = Field(None, description="Memory a vendor or registry asks for.")
    fp16_vram_bytes: Count | None = Field(None, description="Graphics memory for 16-bit weights, as published.")
    tags: tuple[Tag, ...] = ()
    capabilities: dict[Id, Annotated[float, Field(ge=-1, le=10)]] = Field(
        default_factory=dict, description="Declared scores: 0 not capable, 10 the level of GPT-4 in 2023, -1 not rated."
    )
    alignment: Literal["aligned", "unaligned", "uncensored", "maligned", "unknown"] = "unknown"
    harms: tuple[Text, ...] = Field((), description="What a maligned model was made to do.")
    remote: bool = Field(False, description="Runs at a provider; there is nothing to download or load.")
    shortlist: bool = False
    shape: Shape | None = None
    legacy: Legacy | None = None
    published_rights: PublishedRights | None = None


class Condition(_Frozen):
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


class Dataset(Entry):
    """A data set or benchmark."""

    kind: Literal["dataset", "benchmark"]
    task: Text
    modality: Literal["text", "code", "image", "audio", "video"]
    size: dict[str, int | float | str | list[int]] = Field(default_factory=dict)
    metric: Text | None = None
    languages: tuple[Text, ...] = ()
    licence: Text | None = None
    upstream_terms: Id | None = Field(None, description="Terms that came with the outputs the set was made from.")
    organisation: Text | None = None
    released: Date | None = None
    hub_repo: Text | None = None
    url: Text | None = None


class Leaderboard(Entry):
    """A public ranking of models."""

    task: Text
    benchmarks: tuple[Text, ...]
    metric: Text | None = None
    url: Text
    status: Literal["active", "renamed", "retired", "unknown"]
    ended: Date | None = None


class Metric(Entry):
    """A figure that evaluations report."""

    modality: Text
    lower_is_better: bool | None = None


class Engine(Entry):
    """A program that runs models for others."""

    open_source: bool
    gpu_optimisations: tuple[Text, ...] = ()
    ease: Literal["easy", "moderate", "difficult", "disputed"]
    formats: tuple[Text, ...]
    pros: tuple[Text, ...] = ()
    cons: tuple[Text, ...] = ()
    licence: Text | None = None
    url: Text | None = None
    status: Text | None = Field(None, description="What has changed since the table was published.")


class FileFormat(Entry):
    """A format of model files."""

    full_name: Text | None = None
    ease: Literal["good", "moderate", "poor", "unrated"] = "unrated"
    integration: Text | None = None
    deployment_tools: bool | None = None
    interoperable: bool | None = None
    speed_gain: Literal["good", "moderate", "poor", "unrated"] = "unrated"
    quantisation: Text | None = None
    custom_layers: Text | None = None
    maintainer: Text | None = None
    introduced: Date | None = None
    runs_code: bool = Field(False, description="Opening such a file can run code hidden in it.")
    used_by: tuple[Text, ...] = ()
    limits: tuple[Text, ...] = ()
    status: Text | None = None


class VectorStore(Entry):
    """A store that finds the nearest vectors."""

    repository: Text | None = None
    open_source: bool
    sharding: bool
    metrics: tuple[Text, ...]
    indices: tuple[Text, ...]


class Sdk(Entry):
    """A library for building programs on language models."""

    use_cases: tuple[Text, ...] = ()
    vector_stores: Text | None = None
    embedding_models: Text | None = None
    models: Text | None = None
    languages: tuple[Text, ...] = ()
    features: tuple[Text, ...] = ()
    limits: tuple[Text, ...] = ()
    repository: Text | None = None
    status: Text | None = None


class DesktopApp(Entry):
    """A program with windows (or a terminal) for running models."""

    models: Text
    gpu: Text
    layout: Text
    configuration: Text
    extra: Text | None = None
    systems: tuple[Text, ...]
    server_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    server_api: Text | None = None
    plans: Text | None = None
    status: Text | None = None


class TuningMethod(Entry):
    """A way to change a model's behaviour, and when it is the right one."""

    answers: Text = Field(description="The problem it is the answer to.")
    changes_weights: bool
    trains: Text | None = Field(None, description="Which weights are trained.")


class TuningNeed(Entry):
    """The least hardware and data a fine-tuning run was reported to need."""

    task: Text
    gpu_bytes: Count | None = None
    gpu_bytes_4bit: Count | None = None
    data_amount: Count
    data_unit: Text


class Accelerator(Entry):
    """A kind of processor and the software for it."""

    software: tuple[Text, ...]
    maturity: Text


class HardwareApi(Entry):
    """A programming interface to a processor."""

    vendor: Text
    level: Literal["low", "high", "mixed"]
    platforms: tuple[Text, ...]
    purpose: Text


class TagRule(Entry):
    """A tag and the rule by which a model gets it."""

    rule: Text
    capability: Id | None = Field(None, description="A measured score of this capability under `floor` takes it away.")
    floor: float = 1.0


class Correction(Entry):
    """Where the published sources disagree, are wrong or have been overtaken, and what holds."""

    kind: Literal["contradiction", "wrong", "outdated", "changed", "difference"]
    claims: tuple[Text, ...]
    holds: Text


class Mention(Entry):
    """A model that a source names without saying enough for an entry of its own."""

    organisation: Text | None = None
    modality: Text
    known: Text | None = None
    lacking: Text | None = None


KINDS: dict[str, type[Entry] | type[Source]] = {
    "source": Source,
    "model": ModelEntry,
    "licence": Licence,
    "dataset": Dataset,
    "leaderboard": Leaderboard,
    "metric": Metric,
    "engine": Engine,
    "format": FileFormat,
    "vector-store": VectorStore,
    "sdk": Sdk,
    "desktop-app": DesktopApp,
    "tuning-method": TuningMethod,
    "tuning-need": TuningNeed,
    "accelerator": Accelerator,
    "hardware-api": HardwareApi,
    "tag": TagRule,
    "correction": Correction,
    "mention": Mention,
}
"""Every kind of entry, by the name of its array of tables. A family is the head of a file, not a kind."""
