"""What the service's answers are, for programs: frozen records, made from the reply objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Handshake:
    """Who answers, and what a call needs there: `auth` is "none" or "key"."""

    name: str
    version: str
    protocols: tuple[str, ...]
    auth: str

    @classmethod
    def parse(cls, value: Json) -> Handshake:
        return cls(value["name"], value["version"], tuple(value["protocols"]), value["auth"])


@dataclass(frozen=True)
class Identity:
    """Who calls, and what they may do. `app` is None for the owner."""

    name: str
    app: str | None
    permissions: frozenset[str]
    used_today: int = 0

    @classmethod
    def parse(cls, value: Json) -> Identity:
        return cls(value["name"], value.get("app"), frozenset(value["permissions"]), value.get("used_today", 0))


@dataclass(frozen=True)
class Request:
    """Something the user was asked. `progress` of a download is in bytes: those that came, those expected."""

    id: str
    kind: str
    state: str
    outcome: str
    complete: bool
    accepted: bool
    details: Json = field(hash=False)
    progress: tuple[int, int] | None = None

    @classmethod
    def parse(cls, value: Json) -> Request:
        told = value.get("progress")
        progress = (told["done"], told["total"]) if told else None
        return cls(
            value["id"], value["kind"], value["state"], value["outcome"], value["complete"], value["accepted"],
            value["details"], progress,
        )  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """Which model a call would use, what must be done first (use, load, download), and why."""

    model: str
    state: str
    action: str
    reason: str

    @classmethod
    def parse(cls, value: Json) -> Choice:
        return cls(value["model"], value["state"], value["action"], value["reason"])


@dataclass(frozen=True)
class Model:
    """An installed model; `size` in bytes."""

    name: str
    digest: str
    size: int
    loaded: bool
    facts: Json = field(hash=False)

    @classmethod
    def parse(cls, value: Json) -> Model:
        return cls(value["name"], value["digest"], value["size"], value["loaded"], value["facts"])


@dataclass(frozen=True)
class Reply:
    """A whole answer. `cached_tokens` of the prompt were known to the engine from before."""

    text: str
    model: str
    finish_reason: str | None
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @classmethod
    def parse(cls, value: Json) -> Reply:
        usage = value["usage"]
        return cls(
            value["text"], value["model"], value["finish_reason"], usage["prompt_tokens"], usage["completion_tokens"],
            usage["cached_tokens"],
        )  # fmt: skip

    def __str__(self) -> str:
        return self.text
