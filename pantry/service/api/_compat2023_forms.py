"""The data forms of Pantry's 2023 app API, and the flexible choice of a model as that release made it. No I/O."""

from __future__ import annotations

import datetime
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pantry.core.errors import ModelNotFoundError, UsageError
from pantry.core.foreign_json import parse_json
from pantry.core.permissions import Caller, Permission
from pantry.core.refs import ModelName
from pantry.service.generation.request import SAMPLING
from pantry.store.jobs import JobProgress
from pantry.store.models import InstalledModel
from pantry.store.requests import AppRequest
from pantry.store.sessions import Session

if TYPE_CHECKING:
    from pantry.catalogue.schema import ModelEntry

_NAMESPACE = uuid.UUID("7a6f1f0a-5a0e-5c63-9a57-b7d1b6a1c2d3")
"""Under which model names become the UUIDs that release gave to installed models."""
PERMISSION_NAMES = {
    "perm_superuser": Permission.SUPERUSER,
    "perm_load_llm": Permission.LOAD,
    "perm_unload_llm": Permission.UNLOAD,
    "perm_download_llm": Permission.DOWNLOAD,
    "perm_session": Permission.SESSION,
    "perm_request_download": Permission.REQUEST_DOWNLOAD,
    "perm_request_load": Permission.REQUEST_LOAD,
    "perm_request_unload": Permission.REQUEST_UNLOAD,
    "perm_view_llms": Permission.VIEW,
    "perm_bare_model": Permission.BARE_MODEL,
}
CAPABILITIES = ("general", "assistant", "writing", "coding")
NOT_RATED = -1
_TYPES = {
    "permission": "PermissionRequest",
    "download": "DownloadRequest",
    "load": "LoadRequest",
    "unload": "UnloadRequest",
}
MOST_COMING = 99.0  # percent, of what has come and is not installed yet
_BEFORE_DOWNLOAD = ("", "metadata verified", "resolving", "waiting")  # steps of a pull


@dataclass(frozen=True)
class Named:
    """A model by its name, installed or being downloaded, with what the catalogue says of it."""

    name: ModelName
    entry: ModelEntry | None

    @property
    def uuid(self) -> str:
        return llm_uuid(self.name)

    @property
    def id(self) -> str:
        """The machine id: that of the 2023 registry where it had the model, else the name."""
        legacy = self.entry.legacy if self.entry else None
        return legacy.id if legacy else str(self.name)

    @property
    def family(self) -> str:
        legacy = self.entry.legacy if self.entry else None
        return (legacy.family if legacy else None) or (self.entry.family if self.entry else "")

    @property
    def local(self) -> bool:
        return not (self.entry and self.entry.remote)

    def score(self, capability: str) -> float:
        return self.entry.capabilities.get(capability, NOT_RATED) if self.entry else NOT_RATED

    def is_called(self, text: str) -> bool:
        """Whether `text` is one of the names callers may use for it."""
        return text in (self.uuid, self.id, str(self.name))


@dataclass(frozen=True)
class Known(Named):
    """An installed model."""

    model: InstalledModel
    running: bool


def llm_uuid(name: ModelName) -> str:
    """The UUID of a model; known before it is downloaded."""
    return str(uuid.uuid5(_NAMESPACE, f"{name.name}:{name.tag}"))


def choose_flex(known: Sequence[Known], filter: Any, preference: Any) -> Known:
    """The first model that matches `filter`, in the order of `preference`; the general score decides last.

    Raises ModelNotFoundError when none matches and UsageError when either is malformed.
    """
    wanted, liked = _object(filter, "filter"), _object(preference, "preference")
    floors = wanted.get("minimum_capabilities") or []
    if not isinstance(floors, list) or not all(isinstance(floor, dict) for floor in floors):
        raise UsageError('minimum_capabilities is a list like [{"capability": "general", "value": 3}].')
    fits = [each for each in known if _matches(each, wanted, floors)]
    if not fits:
        raise ModelNotFoundError("No model matches the filter.")
    capability = str(liked.get("capability_type") or "general").lower()
    return min(
        fits,
        key=lambda each: (
            liked.get("llm_uuid") is not None and each.uuid != liked["llm_uuid"],
            liked.get("llm_id") is not None and not each.is_called(str(liked["llm_id"])),
            liked.get("local") is not None and each.local is not liked["local"],
            liked.get("family_id") is not None and each.family != liked["family_id"],
            -each.score(capability),
            -each.score("general"),
            str(each.model.name),
        ),
    )


def _matches(known: Known, wanted: Mapping[str, Any], floors: Sequence[Mapping[str, Any]]) -> bool:
    same = (
        (wanted.get("llm_uuid"), known.uuid),
        (wanted.get("family_id"), known.family),
        (wanted.get("local"), known.local),
    )
    if any(want is not None and want != have for want, have in same):
        return False
    if wanted.get("llm_id") is not None and not known.is_called(str(wanted["llm_id"])):
        return False
    for floor in floors:
        value = floor.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UsageError("value of a minimum capability is a number.")
        if known.score(str(floor.get("capability", "")).lower()) < value:
            return False
    return True


def status_object(known: Known) -> dict[str, Any]:
    """LLMStatus of an installed model."""
    return _status(known, known.model.facts, 100.0, running=known.running)


def coming_object(named: Named, progress: JobProgress) -> dict[str, Any]:
    """LLMStatus of a model that is being downloaded: `download_progress` is in percent, 100 when it is installed."""
    if progress.step == "downloading":
        percent = min(MOST_COMING, 100.0 * progress.done / progress.total) if progress.total else 0.0
    else:
        percent = 0.0 if progress.step in _BEFORE_DOWNLOAD else MOST_COMING
    return _status(named, {}, percent, running=False)


def _status(known: Named, facts: Mapping[str, Any], progress: float, *, running: bool) -> dict[str, Any]:
    entry = known.entry
    return {
        "id": known.id,
        "family_id": known.family,
        "organization": (entry.organisation if entry else None) or "",
        "name": (entry.name if entry else None) or str(facts.get("title") or known.name),
        "homepage": (entry.url if entry else None) or "",
        "license": (entry.licence if entry else None) or str(facts.get("licence") or ""),
        "description": str(facts.get("description") or ""),
        "capabilities": {name: round(known.score(name)) for name in CAPABILITIES},
        "requirements": (entry.legacy.requirements if entry and entry.legacy else None) or "",
        "tags": list(entry.tags) if entry else [],
        "url": (entry.url if entry else None) or "",
        "local": known.local,
        "connector_type": "llmrs" if known.local else "genericapi",
        "download_progress": progress,
        "config": {},
        "parameters": {},
        "user_parameters": sorted(SAMPLING),
        "session_parameters": {},
        "user_session_parameters": ["system_prompt", *sorted(SAMPLING)],
        "uuid": known.uuid,
        "running": running,
    }


def running_object(known: Known) -> dict[str, Any]:
    """LLMRunningStatus."""
    return {"llm_info": status_object(known), "uuid": known.uuid}


def user_object(app: str, name: str, key: str) -> dict[str, Any]:
    """UserInfo of an app that just registered: its key in the clear, no permission yet."""
    return {"id": app, "name": name, "api_key": key, **dict.fromkeys(PERMISSION_NAMES, False)}


def request_object(request: AppRequest) -> dict[str, Any]:
    """UserRequest."""
    details: dict[str, Any]
    if request.kind == "permission":
        names = set(request.details["permissions"])
        details = {"requested_permissions": {key: each.value in names for key, each in PERMISSION_NAMES.items()}}
    elif request.kind == "download":
        details = {"llm_registry_entry": request.details.get("entry", {"id": request.details["model"]})}
    else:
        details = {"llm_id": request.details["model"]}
    return {
        "id": request.id,
        "user_id": request.app,
        "reason": request.reason,
        "timestamp": request.created_at,
        "originator": request.app_name,
        "request": {"type": _TYPES[request.kind], **details},
        "complete": request.complete,
        "accepted": request.accepted,
    }


def request_status_object(request: AppRequest) -> dict[str, Any]:
    """UserRequestStatus: the same without reason and originator."""
    whole = request_object(request)
    return {key: value for key, value in whole.items() if key not in ("reason", "originator")}


def permissions_from(value: Any) -> list[Permission]:
    """The permissions that are true in a Permissions object. Raises UsageError for a name or value that is wrong."""
    found = []
    for name, wanted in _object(value, "requested_permissions").items():
        if name not in PERMISSION_NAMES or not isinstance(wanted, bool):
            raise UsageError(f"{name[:60]!r} in requested_permissions is unknown or not a boolean.")
        if wanted:
            found.append(PERMISSION_NAMES[name])
    return found


def entry_from(value: Any) -> dict[str, Any]:
    """A registry entry, as an object or as JSON text. Raises UsageError without an id."""
    if isinstance(value, str):
        value = parse_json(value.encode(), "llm_registry_entry")
    entry = _object(value, "llm_registry_entry")
    if not isinstance(entry.get("id"), str) or not entry["id"]:
        raise UsageError("llm_registry_entry has no id.")
    if len(json.dumps(entry)) > 100_000:
        raise UsageError("llm_registry_entry is over 100,000 characters.")
    return entry


def name_from_id(id: str) -> ModelName:
    """A model name from a registry id: characters that names do not have become hyphens. Raises UsageError."""
    return ModelName.parse(re.sub(r"[^a-z0-9._-]+", "-", id.lower())[:128].strip("-._"))


def sampling_from(value: Any, what: str) -> dict[str, Any]:
    """The generation parameters in a parameters object; those of other engines are left out, as that release did."""
    return {name: each for name, each in _object(value, what).items() if name in SAMPLING}


def session_object(session: Session, caller: Caller) -> dict[str, Any]:
    """The session inside an LLMEvent."""
    return {
        "id": session.id,
        "llm_uuid": llm_uuid(session.model),
        "user_id": caller.app or "",
        "started": time_text(session.started_at),
        "last_called": time_text(session.last_used),
        "session_parameters": dict(session.parameters),
    }


def time_text(moment: float) -> str:
    """Seconds since 1970 as RFC 3339 text in UTC."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds")


def _object(value: Any, what: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{what} is an object.")
    return value
