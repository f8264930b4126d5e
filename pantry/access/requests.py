"""Requests: an app asks, the user approves or refuses, and what was approved is done.

Details by kind: permission `{"permissions": [...]}`; load and unload `{"model": NAME}`; download `{"model": NAME}`,
with `"url"` where the app gave one, and `"entry"` for an entry of a 2023 registry.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pantry.access.apps import expiry
from pantry.core.errors import (
    ApprovalNeededError,
    NotFoundError,
    PantryError,
    RateLimitError,
    UsageError,
)
from pantry.core.paths import Paths
from pantry.core.permissions import Caller, Grant, Permission
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.core.units import format_bytes
from pantry.store.apps import Apps
from pantry.store.database import Database
from pantry.store.models import Store
from pantry.store.requests import AppRequest, Kind, Requests

MAX_PENDING = 8  # undecided requests of one app
MAX_RUNNING = 16  # requests of one app that are approved and not done
MAX_PENDING_OF_ALL = 200  # undecided requests of all apps
MAX_REASON = 500  # characters of an app's reason that are kept


@dataclass(frozen=True)
class Limits:
    """How far an approval goes. `always` lets the app do such things by itself from now on."""

    always: bool = False
    models: tuple[str, ...] = ()
    days: float | None = None
    tokens_per_day: int | None = None


def ask(
    database: Database, settings: Settings, caller: Caller, kind: Kind, details: Mapping[str, Any], reason: str = ""
) -> AppRequest:
    """Write down what an app asks for; the same thing asked again is the same request.

    What the setting `approve` names is approved at once. Raises RateLimitError when too much is undecided.
    """
    if caller.app is None:
        raise UsageError("Only apps ask; the owner may do this at once.")
    requests = Requests(database)
    if known := requests.pending_like(caller.app, kind, details):
        return known
    if requests.count_pending(caller.app) >= MAX_PENDING:
        raise RateLimitError(f"{caller.name} has {MAX_PENDING} requests that wait for an answer.", retry_after=60)
    if requests.count_pending() >= MAX_PENDING_OF_ALL:
        raise RateLimitError(f"{MAX_PENDING_OF_ALL} requests wait for an answer.", retry_after=60)
    made = requests.add(caller.app, kind, details, " ".join(reason.split())[:MAX_REASON])
    return approve(database, made, Limits()) if kind in settings.approve else made


def ask_for_permissions(
    database: Database, settings: Settings, caller: Caller, permissions: Sequence[Permission], reason: str = ""
) -> AppRequest:
    """Ask for permissions. Raises UsageError for none; superuser is never approved by itself."""
    names = sorted({permission.value for permission in permissions})
    if not names:
        raise UsageError("No permission was named.", hint=f"Known: {', '.join(each.value for each in Permission)}.")
    if Permission.SUPERUSER in permissions:
        kept = tuple(kind for kind in settings.approve if kind != "permission")
        settings = settings.model_copy(update={"approve": kept})
    return ask(database, settings, caller, "permission", {"permissions": names}, reason)


def approved_at_once(database: Database, caller: Caller, kind: Kind, details: Mapping[str, Any]) -> AppRequest:
    """Write down something an app may do by itself but that takes long, as a request that is approved already.

    Raises RateLimitError when too many such things of the app are not done yet.
    """
    if caller.app is None:
        raise UsageError("Only apps have requests.")
    requests = Requests(database)
    made = requests.pending_like(caller.app, kind, details)
    if made is None and requests.count_approved(caller.app) >= MAX_RUNNING:
        raise RateLimitError(f"{MAX_RUNNING} things that {caller.name} asked for are being done.", retry_after=60)
    made = made or requests.add(caller.app, kind, details, "")
    return made if made.state == "approved" else approve(database, made, Limits())


def approve(database: Database, request: AppRequest, limits: Limits) -> AppRequest:
    """Record the user's yes. Permissions hold at once; the rest is done by the service, also after a restart.

    Raises ConflictError when it was decided already, UsageError for limits that make no sense.
    """
    requests, apps, until = Requests(database), Apps(database), expiry(limits.days)
    with database.transaction():
        requests.decide(request.id, "approved")
        if request.kind == "permission":
            granted = [Permission.parse(name) for name in request.details["permissions"]]
            apps.grant(request.app, granted, Grant(limits.models or ("*",), until))
            requests.finish(request.id, "done", "granted")
        elif limits.always:
            own = (str(ModelName.parse(str(request.details["model"]))),)
            apps.grant(
                request.app, [_PERMISSION_OF[request.kind]], _widened(apps, request, limits.models or own, until)
            )
        if limits.tokens_per_day is not None:
            apps.limit_tokens(request.app, limits.tokens_per_day)
    return requests.get(request.id)


_PERMISSION_OF: dict[Kind, Permission] = {
    "load": Permission.LOAD,
    "unload": Permission.UNLOAD,
    "download": Permission.DOWNLOAD,
}


def _widened(apps: Apps, request: AppRequest, models: tuple[str, ...], until: float | None) -> Grant:
    """The grant after `models` joined those that the app has for good already."""
    held = apps.get(request.app).grants.get(_PERMISSION_OF[request.kind])
    both = dict.fromkeys((*(held.models if held and held.expires_at is None else ()), *models))
    return Grant(tuple(both), until)


def refuse(database: Database, request: AppRequest) -> AppRequest:
    """Record the user's no. Raises ConflictError when it was decided already."""
    Requests(database).decide(request.id, "refused", "the user refused")
    return Requests(database).get(request.id)


def own_request(database: Database, caller: Caller, id: str) -> AppRequest:
    """A request of the caller; the owner sees all. Raises NotFoundError, also for that of another app."""
    request = Requests(database).get(id)
    if caller.kind != "owner" and request.app != caller.app:
        raise NotFoundError("There is no such request.")
    return request


def approval_needed(request: AppRequest, reason: str) -> ApprovalNeededError:
    """The error for something that now waits for the user."""
    told = "The user was asked" if request.state == "pending" else "It is being done"
    return ApprovalNeededError(
        f"{reason} {told} (request {request.id}).", hint="Ask again when it is approved.", request_id=request.id
    )


_MEANING = {Permission.SUPERUSER.value: "superuser (everything that you may do)"}


def describe(request: AppRequest, store: Store | None = None, paths: Paths | None = None) -> str:
    """One line for the user: `Notes wants to download qwen3-0.6b (380 MB, Apache-2.0)`."""
    details = request.details
    if request.kind == "permission":
        names = [_MEANING.get(name, name) for name in details["permissions"]]
        return f"{request.app_name} asks for the permission{'s' if len(names) > 1 else ''} {', '.join(names)}"
    model = str(details["model"])
    facts = _facts_of(model, request.kind, store, paths)
    where = f" from {details['url']}" if details.get("url") else ""
    return f"{request.app_name} wants to {request.kind} {model}{f' ({facts})' if facts else ''}{where}"


def _facts_of(model: str, kind: Kind, store: Store | None, paths: Paths | None) -> str:
    """Size and licence as far as they are known: of the installed model, else from the catalogue."""
    from pantry.catalogue.lookup import Catalogue  # slow to load, and most services are never asked

    size: int | None = None
    licence: str | None = None
    with contextlib.suppress(PantryError), contextlib.closing(Catalogue.open(paths)) as catalogue:
        if store is not None and kind != "download":
            installed = store.get(ModelName.parse(model))
            size, licence = installed.size, installed.facts.get("licence")
        elif (entry := catalogue.find_model(model)) is not None:
            size, licence = entry.download_bytes, entry.licence
        licence = catalogue.shown_licence(licence) if licence else None
    shown = format_bytes(size).replace(".0 ", " ") if size else None
    return ", ".join(each for each in (shown, licence) if each)


def list_requests(paths: Paths, *, everything: bool = False) -> list[tuple[AppRequest, str]]:
    """Undecided requests, or all, with a line for the user each."""
    with Store.open(paths) as store:
        found = Requests(store.database).list(state=None if everything else "pending")
        return [(request, describe(request, store, paths)) for request in found]


def decide_request(paths: Paths, text: str, limits: Limits | None) -> tuple[AppRequest, str]:
    """Approve (with limits) or refuse (None) the request whose id starts with `text`, and a line on it.

    A running service does what was approved; else the next one to start does. Raises NotFoundError, ConflictError.
    """
    with Store.open(paths) as store:
        request = Requests(store.database).find(text)
        decided = refuse(store.database, request) if limits is None else approve(store.database, request, limits)
        return decided, describe(decided, store, paths)
