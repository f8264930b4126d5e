"""The contract of an engine adapter, and the types it works with.

An adapter says what its engine serves, whether it can run here, what a model needs, and with what command it runs. The
command's program listens on the Unix socket it is given, answers `GET /health` with 200 when it is ready, speaks the
OpenAI HTTP dialect (`/v1/chat/completions`, `/v1/completions`), and frees a request's resources when its client goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pantry.core.refs import ModelName
from pantry.core.registry import Registry
from pantry.core.settings import Settings
from pantry.formats.memory import Need
from pantry.formats.parts import PlacedPart, Role, of_role

Serves = Literal["chat", "completion", "embedding", "rerank", "vision"]
"""What can be asked of a model in an engine."""


@dataclass(frozen=True)
class ModelFiles:
    """The verified files of a model that an engine may open. `name` is what answers call the model.

    A model of several files has a `folder`: there its parts lie under their paths, as read-only links. One that is a
    single file has none.
    """

    name: ModelName
    format: str
    parts: tuple[PlacedPart, ...]
    folder: Path | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> Path:
        """The file of weights, the first where there are several."""
        return of_role(self.parts, "weights")[0]

    def of_role(self, role: Role) -> list[Path]:
        """The files of that role, in order of their paths in the model."""
        return of_role(self.parts, role)


@dataclass(frozen=True)
class LoadOptions:
    """How to load a model: `context` in tokens for each of `parallel` answers, `prompt_cache` in bytes."""

    context: int
    parallel: int
    threads: int
    prompt_cache: int


@dataclass(frozen=True)
class WorkerNeed:
    """Bytes a worker needs: the model's, and past prompts kept for reuse (no more than one full cache)."""

    model: Need
    prompts: int

    @property
    def total(self) -> int:
        return self.model.ram + self.prompts


class EngineAdapter(Protocol):
    """What the pool needs to know of an engine."""

    formats: frozenset[str]
    """The model formats it runs, as the store calls them."""
    serves: frozenset[Serves]
    """What the engine can serve; `pantry.engines.choose.serves` says what of that a model can."""

    def why_not_here(self, settings: Settings) -> str | None:
        """None when the engine can run on this machine, else the reason with the next step."""

    def need(self, model: ModelFiles, options: LoadOptions) -> WorkerNeed:
        """The memory that `model` will need, before it is started. Raises BadFileError when it cannot be read."""

    def command(self, model: ModelFiles, options: LoadOptions, socket: Path, settings: Settings) -> list[str]:
        """The program and arguments that serve `model` on `socket`. Called only where the engine can run."""


ENGINES = Registry("pantry.engines.adapters", "pantry.engines", "adapter", "engine")
