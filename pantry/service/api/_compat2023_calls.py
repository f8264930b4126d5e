"""The calls of Pantry's 2023 app API that answer with one JSON value, by name."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from pantry.access.requests import ask, ask_for_permissions, own_request
from pantry.core.errors import ForbiddenError, ModelNotFoundError, UsageError
from pantry.core.permissions import Action, Caller, decide
from pantry.core.refs import ModelName
from pantry.service.api import _compat2023_forms as forms
from pantry.service.context import ServiceContext
from pantry.store.requests import AppRequest, Kind
from pantry.store.sessions import Session

Body = dict[str, Any]
CALLS: dict[str, Callable[[ServiceContext, Caller, Body], Awaitable[Any]]] = {}
"""The calls that answer with one JSON value, by name."""


def call(
    run: Callable[[ServiceContext, Caller, Body], Awaitable[Any]],
) -> Callable[[ServiceContext, Caller, Body], Awaitable[Any]]:
    """Offer a call under its own name."""
    CALLS[run.__name__] = run
    return run


@call
async def request_permissions(service: ServiceContext, caller: Caller, body: Body) -> Any:
    wanted = forms.permissions_from(body.get("requested_permissions"))
    gateway = service.gateway
    made = ask_for_permissions(gateway.store.database, gateway.settings, caller, wanted)
    return forms.request_object(gateway.announce(made))


@call
async def request_download(service: ServiceContext, caller: Caller, body: Body) -> Any:
    entry = forms.entry_from(body.get("llm_registry_entry"))
    model, details = _download_details(service, entry)
    return _ask(service, caller, "download", Action.DOWNLOAD, model, details)


@call
async def request_load(service: ServiceContext, caller: Caller, body: Body) -> Any:
    known = _known(service, caller, text_in(body, "llm_id"))
    return _ask(service, caller, "load", Action.LOAD, known.model.name, {"model": str(known.model.name)})


@call
async def request_load_flex(service: ServiceContext, caller: Caller, body: Body) -> Any:
    usable = _usable(service, caller, Action.LOAD, asking=True)
    known = forms.choose_flex(usable, body.get("filter"), body.get("preference"))
    return _ask(service, caller, "load", Action.LOAD, known.model.name, {"model": str(known.model.name)})


@call
async def request_unload(service: ServiceContext, caller: Caller, body: Body) -> Any:
    known = _known(service, caller, text_in(body, "llm_id"))
    return _ask(service, caller, "unload", Action.UNLOAD, known.model.name, {"model": str(known.model.name)})


@call
async def get_request_status(service: ServiceContext, caller: Caller, body: Body) -> Any:
    request = own_request(service.gateway.store.database, caller, _id(body, "request_id"))
    return forms.request_status_object(request)


@call
async def get_llm_status(service: ServiceContext, caller: Caller, body: Body) -> Any:
    text = text_in(body, "llm_id")
    try:
        known = _known(service, caller, text)
    except ModelNotFoundError:
        return _coming(service, caller, text)
    service.gateway.permit(caller, Action.VIEW, known.model.name)
    return forms.status_object(known)


@call
async def get_available_llms(service: ServiceContext, caller: Caller, body: Body) -> Any:
    service.gateway.permit(caller, Action.VIEW)
    return [forms.status_object(each) for each in _usable(service, caller, Action.VIEW)]


@call
async def get_running_llms(service: ServiceContext, caller: Caller, body: Body) -> Any:
    service.gateway.permit(caller, Action.VIEW)
    return [forms.status_object(each) for each in _usable(service, caller, Action.VIEW) if each.running]


CALLS["request_running_llms"] = get_running_llms


@call
async def load_llm(service: ServiceContext, caller: Caller, body: Body) -> Any:
    return await _load(service, caller, _known(service, caller, text_in(body, "llm_id")))


@call
async def load_llm_flex(service: ServiceContext, caller: Caller, body: Body) -> Any:
    service.gateway.permit(caller, Action.LOAD)
    usable = _usable(service, caller, Action.LOAD)
    return await _load(service, caller, forms.choose_flex(usable, body.get("filter"), body.get("preference")))


@call
async def unload_llm(service: ServiceContext, caller: Caller, body: Body) -> Any:
    known = _known(service, caller, text_in(body, "llm_id"))
    service.gateway.permit(caller, Action.UNLOAD, known.model.name)
    await service.models.unload(caller, str(known.model.name))
    return forms.status_object(_known(service, caller, known.uuid))


@call
async def download_llm(service: ServiceContext, caller: Caller, body: Body) -> Any:
    entry = forms.entry_from(body.get("llm_registry_entry"))
    if known := next((each for each in _everything(service) if each.is_called(entry["id"])), None):
        service.gateway.permit(caller, Action.DOWNLOAD, known.model.name)
        return known.uuid
    model, details = _download_details(service, entry)
    service.gateway.permit(caller, Action.DOWNLOAD, model)
    await service.models.download(caller, str(model), details.get("url"), details["entry"])
    return forms.llm_uuid(model)


CALLS["get_or_download_llm"] = download_llm


@call
async def create_session(service: ServiceContext, caller: Caller, body: Body) -> Any:
    return await _create_session(service, caller, body, forms.choose_flex(_speakers(service, caller), None, None))


@call
async def create_session_id(service: ServiceContext, caller: Caller, body: Body) -> Any:
    return await _create_session(service, caller, body, _known(service, caller, text_in(body, "llm_id")))


@call
async def create_session_flex(service: ServiceContext, caller: Caller, body: Body) -> Any:
    usable = _speakers(service, caller)
    return await _create_session(
        service, caller, body, forms.choose_flex(usable, body.get("filter"), body.get("preference"))
    )


@call
async def interrupt_session(service: ServiceContext, caller: Caller, body: Body) -> Any:
    service.gateway.permit(caller, Action.GENERATE)
    session = session_of(service, caller, body)
    service.sessions.interrupt(caller, session.id)
    return forms.running_object(_known(service, caller, str(session.model)))


@call
async def bare_model(service: ServiceContext, caller: Caller, body: Body) -> Any:
    return await _bare_model(service, caller, _known(service, caller, text_in(body, "llm_id")))


@call
async def bare_model_flex(service: ServiceContext, caller: Caller, body: Body) -> Any:
    service.gateway.permit(caller, Action.BARE_MODEL)
    usable = _usable(service, caller, Action.BARE_MODEL)
    return await _bare_model(service, caller, forms.choose_flex(usable, body.get("filter"), body.get("preference")))


def _known(service: ServiceContext, caller: Caller, text: str) -> forms.Known:
    """The installed model called `text`: its id, name or UUID. Raises ModelNotFoundError."""
    for known in _everything(service):
        if known.is_called(text):
            return known
    raise ModelNotFoundError(f"There is no model {text[:80]!r}.")


def _coming(service: ServiceContext, caller: Caller, text: str) -> Body:
    """The status of a model that is being downloaded for the caller. Raises ModelNotFoundError when none is."""
    for job in service.runner.jobs.list(app=caller.app):
        if job.kind == "pull" and not job.ended:
            name = ModelName.parse(job.parameters["model"])
            named = forms.Named(name, service.models.selector().catalogue.find_model(str(name)))
            if named.is_called(text):
                service.gateway.permit(caller, Action.VIEW, name)
                return forms.coming_object(named, job.progress)
    raise ModelNotFoundError(f"There is no model {text[:80]!r}.")


def _everything(service: ServiceContext) -> list[forms.Known]:
    gateway, selector = service.gateway, service.models.selector()
    running = {entry.model.name for entry in gateway.pool.loaded()}
    return [
        forms.Known(model.name, selector.identity_of(model).entry, model, model.name in running)
        for model in gateway.store.list()
    ]


def _usable(service: ServiceContext, caller: Caller, action: Action, *, asking: bool = False) -> list[forms.Known]:
    """The models the caller may use so, or at least ask for: a flexible call chooses among these alone."""
    outcomes = ("allowed", "may_ask") if asking else ("allowed",)
    now = time.time()
    return [
        each for each in _everything(service) if decide(caller, action, each.model.name, now=now).outcome in outcomes
    ]


def _speakers(service: ServiceContext, caller: Caller) -> list[forms.Known]:
    service.gateway.permit(caller, Action.GENERATE)
    return [each for each in _usable(service, caller, Action.GENERATE) if each.running]


def _ask(service: ServiceContext, caller: Caller, kind: Kind, action: Action, model: Any, details: Body) -> Body:
    """File a request, if the caller may ask for such things."""
    ruling = decide(caller, action, model, now=time.time())
    if ruling.outcome == "refused":
        raise ForbiddenError(ruling.reason)
    gateway = service.gateway
    made: AppRequest = ask(gateway.store.database, gateway.settings, caller, kind, details)
    return forms.request_object(gateway.announce(made))


async def _load(service: ServiceContext, caller: Caller, known: forms.Known) -> Body:
    service.gateway.permit(caller, Action.LOAD, known.model.name)
    await service.models.load(caller, str(known.model.name))
    return forms.running_object(_known(service, caller, known.uuid))


async def _bare_model(service: ServiceContext, caller: Caller, known: forms.Known) -> Body:
    _, path = await service.models.bare_model(caller, str(known.model.name))
    return {"model": forms.status_object(known), "path": str(path)}


def session_of(service: ServiceContext, caller: Caller, body: Body) -> Session:
    """The caller's session that the body names, with the model that the body names."""
    session = service.sessions.book.get(caller.app, _id(body, "session_id"))
    if _id(body, "llm_uuid") != forms.llm_uuid(session.model):
        raise ModelNotFoundError("This session belongs to another model.")
    return session


async def _create_session(service: ServiceContext, caller: Caller, body: Body, known: forms.Known) -> Body:
    given = body.get("user_session_parameters")
    sampling = forms.sampling_from(given, "user_session_parameters")
    system = given.get("system_prompt") if isinstance(given, dict) else None
    if system is not None and not isinstance(system, str):
        raise UsageError("system_prompt is a text.")
    session = await service.sessions.create(caller, known.model, sampling, system)
    return {
        "session_parameters": given or {},
        "llm_status": forms.status_object(known),
        "session_id": session.id,
    }


def _download_details(service: ServiceContext, entry: Body) -> tuple[Any, Body]:
    """The name a registry entry stands for and what to write down; its URL counts where no catalogue knows it."""
    found = service.models.selector().catalogue.find_model(entry["id"])
    model = forms.name_from_id(found.id if found else entry["id"])
    url = entry.get("url")
    details: Body = {"model": str(model), "entry": entry}
    if found is None and isinstance(url, str) and url:
        if not service.gateway.settings.url_downloads:
            raise ForbiddenError(f"No catalogue knows {entry['id'][:80]!r}, and downloads from a URL are turned off.")
        details["url"] = url[:2000]
    return model, details


def text_in(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is a text that must be there.")
    return value


def _id(body: Body, name: str) -> str:
    """A UUID in its one written form. Raises UsageError."""
    try:
        return str(uuid.UUID(text_in(body, name)))
    except ValueError:
        raise UsageError(f"{name} is not an id.") from None
