"""Entries about what runs, stores, converts and trains models."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pantry.catalogue._base import Count, Date, Entry, Text


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
