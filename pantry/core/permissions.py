"""Who may do what: one rule for every surface. No I/O, a few microseconds a check.

A caller is the owner, an app with grants, or nobody known. The rule answers whether an action is allowed, whether the
app may ask the user for it, or whether it is refused, and why. The permissions are those of Pantry's 2023 release.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Literal

from pantry.core.errors import UsageError, did_you_mean
from pantry.core.refs import ModelName


class Permission(StrEnum):
    """What an app can be given."""

    SUPERUSER = "superuser"
    LOAD = "load"
    UNLOAD = "unload"
    DOWNLOAD = "download"
    SESSION = "session"
    REQUEST_DOWNLOAD = "request-download"
    REQUEST_LOAD = "request-load"
    REQUEST_UNLOAD = "request-unload"
    VIEW = "view"
    BARE_MODEL = "bare-model"

    @classmethod
    def parse(cls, text: str) -> Permission:
        """A permission by its name. Raises UsageError with the nearest one."""
        name = text.strip().lower().replace("_", "-")
        if name in cls._value2member_map_:
            return cls(name)
        known = [each.value for each in cls]
        raise UsageError(
            f"There is no permission {text[:60]!r}.", hint=did_you_mean(name, known, f"Known: {', '.join(known)}.")
        )


class Action(StrEnum):
    """What a caller wants to do. The value is how messages call it."""

    GENERATE = "generate text"
    LOAD = "load models"
    UNLOAD = "unload models"
    DOWNLOAD = "download models"
    VIEW = "see the models"
    BARE_MODEL = "read model files"
    ADMINISTER = "administer the service"


_NEEDS: Mapping[Action, tuple[Permission, Permission | None]] = {
    Action.GENERATE: (Permission.SESSION, None),
    Action.LOAD: (Permission.LOAD, Permission.REQUEST_LOAD),
    Action.UNLOAD: (Permission.UNLOAD, Permission.REQUEST_UNLOAD),
    Action.DOWNLOAD: (Permission.DOWNLOAD, Permission.REQUEST_DOWNLOAD),
    Action.VIEW: (Permission.VIEW, None),
    Action.BARE_MODEL: (Permission.BARE_MODEL, None),
    Action.ADMINISTER: (Permission.SUPERUSER, None),
}
"""For each action the permission that allows it, and the one that allows asking for it."""


@dataclass(frozen=True)
class Grant:
    """How far a permission goes: models by pattern (`qwen3*`, `*`) and until when (seconds since 1970)."""

    models: tuple[str, ...] = ("*",)
    expires_at: float | None = None

    def covers(self, model: ModelName | None) -> bool:
        """Whether it covers `model`; None stands for something that is about no model."""
        if model is None or "*" in self.models:
            return True
        names = (str(model), f"{model.name}:{model.tag}")
        return any(fnmatchcase(name, pattern) for pattern in self.models for name in names)

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True)
class Caller:
    """Who calls. `app` is the id of an app; the owner and nobody have none."""

    kind: Literal["owner", "app", "nobody"]
    name: str
    app: str | None = None
    grants: Mapping[Permission, Grant] = field(default_factory=dict)
    tokens_per_day: int | None = None

    def holds(self, permission: Permission, now: float) -> bool:
        """Whether the caller has a permission now, for at least some models."""
        grant = self.grants.get(permission)
        return grant is not None and not grant.expired(now)


OWNER = Caller("owner", "the owner")
NOBODY = Caller("nobody", "a caller without a key")


@dataclass(frozen=True)
class Ruling:
    """The answer of the rule; `reason` is a sentence, empty when allowed."""

    outcome: Literal["allowed", "may_ask", "refused"]
    reason: str = ""

    @property
    def allowed(self) -> bool:
        return self.outcome == "allowed"


_ALLOWED = Ruling("allowed")


def decide(caller: Caller, action: Action, model: ModelName | None, *, now: float, used_today: int = 0) -> Ruling:
    """Whether `caller` may do `action` with `model`; `now` in seconds since 1970, `used_today` in tokens of the app."""
    if caller.kind == "owner":
        return _ALLOWED
    if caller.kind == "nobody":
        return Ruling("refused", "A key is needed for this.")
    needed, asking = _NEEDS[action]
    reason = _why_not(caller, action, needed, model, now)
    if reason is not None and caller.holds(Permission.SUPERUSER, now):
        reason = None
    if reason is None:
        limit = caller.tokens_per_day
        if action is Action.GENERATE and limit is not None and used_today >= limit:
            return Ruling("refused", f"{caller.name} has used its {limit} tokens of today.")
        return _ALLOWED
    if asking is not None and caller.holds(asking, now) and caller.grants[asking].covers(model):
        return Ruling("may_ask", reason)
    return Ruling("refused", reason)


def _why_not(caller: Caller, action: Action, needed: Permission, model: ModelName | None, now: float) -> str | None:
    grant = caller.grants.get(needed)
    if grant is None:
        return f"{caller.name} may not {action} (permission {needed})."
    if grant.expired(now):
        return f"The permission {needed} of {caller.name} has expired."
    if not grant.covers(model):
        return f"{caller.name} may not {action} called {model} (permission {needed} is for {', '.join(grant.models)})."
    return None
