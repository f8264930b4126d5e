"""The contract of an engine adapter, and the types it works with.

An adapter says whether its engine can run here, whether it can run a model, and with what command. The command's
program listens on the Unix socket it is given, answers `GET /health` with 200 when it is ready, speaks the OpenAI HTTP
dialect (`/v1/chat/completions`, `/v1/completions`), and frees a request's resources when its client goes away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pantry.core.refs import ModelName
from pantry.core.registry import Registry
from pantry.core.settings import Settings


@dataclass(frozen=True)
class ModelFile:
    """A verified model file that an engine may open. `name` is what answers call the model."""

    name: ModelName
    path: Path
    format: str


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model: `context` in tokens for each of `parallel` answers, `prompt_cache` in bytes."""

    context: int
    parallel: int
    threads: int
    prompt_cache: int


class EngineAdapter(Protocol):
    """What the pool needs to know of an engine."""

    formats: frozenset[str]
    """The model formats it runs, as the store calls them."""

    def why_not_here(self, settings: Settings) -> str | None:
        """None when the engine can run on this machine, else the reason with the next step."""

    def command(self, model: ModelFile, options: LoadOptions, socket: Path, settings: Settings) -> list[str]:
        """The program and arguments that serve `model` on `socket`. Called only where the engine can run."""


ENGINES = Registry("pantry.engines.adapters", "pantry.engines", "adapter", "engine")
