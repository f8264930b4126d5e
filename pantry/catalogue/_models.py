"""Entries about models, and about the data they learn from and are measured by."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from pantry.catalogue._base import Count, Date, Entry, Frozen, Id, Sha256, SourceRef, Tag, Text

Prompt = Annotated[str, StringConstraints(max_length=20_000)]
Modality = Literal["text", "image", "audio", "video", "embedding"]
Role = Literal["base", "chat", "instruct", "reasoning", "embedding", "code", "image", "audio", "refiner", "unknown"]


class Family(Frozen):
    """A line of models of one maker; a file of models starts with it."""

    id: Id
    name: Text
    organisation: Text | None = None
    architecture: Text | None = None
    about: Text | None = None
    aliases: tuple[Text, ...] = ()


class Shape(Frozen):
    """The figures that decide how much memory the context takes (see `pantry/formats/memory.py`)."""

    layers: Count
    kv_heads: Count
    head_dim: Count
    window: Count | None = Field(None, description="Tokens that sliding-window layers keep.")
    full_layers: Count | None = Field(None, description="Layers that keep the whole context; all of them if absent.")


class ModelFile(Frozen):
    """One file to download, with the digest it must have."""

    repo: Text
    file: Text
    sha256: Sha256
    parts: Annotated[int, Field(ge=1)] = 1
    source: SourceRef


class Legacy(Frozen):
    """How the 2023 registry of Pantry listed the model."""

    id: Text
    family: Text | None = None
    pre_prompt: Prompt | None = None
    post_prompt: Prompt | None = None
    licence_as_given: Text | None = None
    requirements: Text | None = None


class PublishedRights(Frozen):
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


class TagRule(Entry):
    """A tag and the rule by which a model gets it."""

    rule: Text
    capability: Id | None = Field(None, description="A measured score of this capability under `floor` takes it away.")
    floor: Annotated[float, Field(ge=-1, le=10, allow_inf_nan=False)] = 1.0


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
