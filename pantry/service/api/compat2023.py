"""The app API of Pantry's 2023 release, so that its client library works unchanged.

Every call is `POST /<name>` with a JSON body that carries user_id and api_key; errors are plain text. Field for field
as in JuliaMerz/pantry @ea9cb8e (server) and JuliaMerz/pantry-rs @a53af63 (client). Translates to the desk, no more.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pantry.access.requests import ask, ask_for_permissions, own_request
from pantry.core.errors import ForbiddenError, ModelNotFoundError, PantryError, UnauthorisedError, UsageError
from pantry.core.faults import record_fault
from pantry.core.permissions import Action, Caller, decide
from pantry.service.api import _compat2023_forms as forms
from pantry.service.generation import sse as _sse
from pantry.service.guard import Handler, check_host, check_origin, check_peer
from pantry.service.http import read_json
from pantry.service.models import DESK, Completion, Desk
from pantry.service.state import GATEWAY, Gateway
from pantry.store.requests import AppRequest, Kind
from pantry.store.sessions import Session

log = logging.getLogger("pantry.service")
Body = dict[str, Any]
CALLS: dict[str, Callable[[Desk, Caller, Body], Awaitable[Any]]] = {}
"""The calls that answer with one JSON value, by name."""


def build_compat_app(gateway: Gateway, desk: Desk) -> web.Application:
    """An application of its own: other paths, other errors, keys in the body."""
    app = web.Application(middlewares=[_guard], client_max_size=gateway.settings.max_body)
    app[GATEWAY], app[DESK] = gateway, desk
    app.router.add_post("/register_user", register_user)
    app.router.add_post("/prompt_session_stream", prompt_session_stream)
    app.router.add_post("/{name}", answer)
    return app


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    gateway, transport = request.app[GATEWAY], request.transport
    if transport is None:
        raise ConnectionResetError("the client left")
    sock = transport.get_extra_info("socket")
    try:
        if sock.family == socket.AF_UNIX:
            check_peer(sock)
        else:
            host = request.headers.get("Host")
            check_host(host, gateway.settings, str(transport.get_extra_info("sockname")[0]))
            check_origin(request.headers.get("Origin"), host, gateway.settings)
        return await handler(request)
    except PantryError as error:
        return _error(error)
    except web.HTTPException as error:
        return web.Response(status=error.status, text=error.reason)
    except ConnectionResetError:
        return web.Response(status=499)
    except Exception as error:
        log.exception("a fault while handling %s", request.path)
        told = record_fault(gateway.paths.fault_log, error, f"handling {request.path!r}")
        return web.Response(status=500, text=str(told))


def _error(error: PantryError) -> web.Response:
    """An error in the words and numbers of that release: both refusals are 401."""
    if isinstance(error, UnauthorisedError):
        return web.Response(status=401, text="Incorrect API Key")
    if isinstance(error, ForbiddenError):
        return web.Response(status=401, text=f"Incorrect Permissions: {error}")
    return web.Response(status=min(500, error.status), text=str(error))


def call(run: Callable[[Desk, Caller, Body], Awaitable[Any]]) -> Callable[[Desk, Caller, Body], Awaitable[Any]]:
    """Offer a call under its own name."""
    CALLS[run.__name__] = run
    return run


async def answer(request: web.Request) -> web.Response:
    """Answer a call with JSON."""
    name = request.match_info["name"]
    run = CALLS.get(name)
    if run is None:
        return web.Response(status=404, text=f"There is no call {name[:60]!r}.")
    desk, body = request.app[DESK], await _body(request)
    return web.json_response(await run(desk, _caller(desk, body), body))


async def register_user(request: web.Request) -> web.Response:
    """Register an app; its key in the clear, this once."""
    body = await _body(request)
    app, key = request.app[DESK].registrar.register(_text(body, "user_name"))
    return web.json_response(forms.user_object(app.id, app.name, key))


async def prompt_session_stream(request: web.Request) -> web.StreamResponse:
    """Answer a prompt as server-sent events, one LLMEvent each."""
    desk, body = request.app[DESK], await _body(request)
    caller = _caller(desk, body)
    desk.gateway.permit(caller, Action.GENERATE)
    session = _session(desk, caller, body)
    prompt, parameters = _text(body, "prompt"), body.get("parameters") or {}
    make = _events(session, caller, prompt, parameters)
    pieces = desk.say(
        caller, session.id, prompt, forms.sampling_from(parameters, "parameters"), written := Completion()
    )
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    async with contextlib.aclosing(pieces):
        await response.prepare(request)

        async def send(event: Body) -> None:
            await desk.gateway.write(request, response, _sse.encode(make(event)))

        previous = ""
        try:
            async for text in pieces:
                await send({"type": "PromptProgress", "previous": previous, "next": text})
                previous += text
            await send({"type": "PromptCompletion", "previous": written.text})
        except PantryError as error:
            await send({"type": "PromptError", "message": str(error)})
    await response.write_eof()
    return response


def _events(session: Session, caller: Caller, prompt: str, parameters: Any) -> Callable[[Body], Body]:
    """What makes an LLMEvent of an event."""
    common = {
        "stream_id": str(uuid.uuid4()),
        "call_timestamp": forms.time_text(time.time()),
        "parameters": parameters,
        "input": prompt,
        "llm_uuid": forms.llm_uuid(session.model),
        "session": forms.session_object(session, caller),
    }
    return lambda event: {**common, "timestamp": forms.time_text(time.time()), "event": event}


@call
async def request_permissions(desk: Desk, caller: Caller, body: Body) -> Any:
    wanted = forms.permissions_from(body.get("requested_permissions"))
    gateway = desk.gateway
    made = ask_for_permissions(gateway.store.database, gateway.settings, caller, wanted)
    return forms.request_object(gateway.announce(made))


@call
async def request_download(desk: Desk, caller: Caller, body: Body) -> Any:
    entry = forms.entry_from(body.get("llm_registry_entry"))
    model, details = _download_details(desk, entry)
    return _ask(desk, caller, "download", Action.DOWNLOAD, model, details)


@call
async def request_load(desk: Desk, caller: Caller, body: Body) -> Any:
    known = _known(desk, caller, _text(body, "llm_id"))
    return _ask(desk, caller, "load", Action.LOAD, known.model.name, {"model": str(known.model.name)})


@call
async def request_load_flex(desk: Desk, caller: Caller, body: Body) -> Any:
    usable = _usable(desk, caller, Action.LOAD, asking=True)
    known = forms.choose_flex(usable, body.get("filter"), body.get("preference"))
    return _ask(desk, caller, "load", Action.LOAD, known.model.name, {"model": str(known.model.name)})


@call
async def request_unload(desk: Desk, caller: Caller, body: Body) -> Any:
    known = _known(desk, caller, _text(body, "llm_id"))
    return _ask(desk, caller, "unload", Action.UNLOAD, known.model.name, {"model": str(known.model.name)})


@call
async def get_request_status(desk: Desk, caller: Caller, body: Body) -> Any:
    request = own_request(desk.gateway.store.database, caller, _id(body, "request_id"))
    return forms.request_status_object(request)


@call
async def get_llm_status(desk: Desk, caller: Caller, body: Body) -> Any:
    known = _known(desk, caller, _text(body, "llm_id"))
    desk.gateway.permit(caller, Action.VIEW, known.model.name)
    return forms.status_object(known)


@call
async def get_available_llms(desk: Desk, caller: Caller, body: Body) -> Any:
    desk.gateway.permit(caller, Action.VIEW)
    return [forms.status_object(each) for each in _usable(desk, caller, Action.VIEW)]


@call
async def get_running_llms(desk: Desk, caller: Caller, body: Body) -> Any:
    desk.gateway.permit(caller, Action.VIEW)
    return [forms.status_object(each) for each in _usable(desk, caller, Action.VIEW) if each.running]


CALLS["request_running_llms"] = get_running_llms


@call
async def load_llm(desk: Desk, caller: Caller, body: Body) -> Any:
    return await _load(desk, caller, _known(desk, caller, _text(body, "llm_id")))


@call
async def load_llm_flex(desk: Desk, caller: Caller, body: Body) -> Any:
    desk.gateway.permit(caller, Action.LOAD)
    usable = _usable(desk, caller, Action.LOAD)
    return await _load(desk, caller, forms.choose_flex(usable, body.get("filter"), body.get("preference")))


@call
async def unload_llm(desk: Desk, caller: Caller, body: Body) -> Any:
    known = _known(desk, caller, _text(body, "llm_id"))
    desk.gateway.permit(caller, Action.UNLOAD, known.model.name)
    await desk.unload(caller, str(known.model.name))
    return forms.status_object(_known(desk, caller, known.uuid))


@call
async def download_llm(desk: Desk, caller: Caller, body: Body) -> Any:
    entry = forms.entry_from(body.get("llm_registry_entry"))
    if known := next((each for each in _everything(desk) if each.is_called(entry["id"])), None):
        desk.gateway.permit(caller, Action.DOWNLOAD, known.model.name)
        return known.uuid
    model, details = _download_details(desk, entry)
    desk.gateway.permit(caller, Action.DOWNLOAD, model)
    await desk.download(caller, str(model), details.get("url"), details["entry"])
    return forms.llm_uuid(model)


CALLS["get_or_download_llm"] = download_llm


@call
async def create_session(desk: Desk, caller: Caller, body: Body) -> Any:
    return await _create_session(desk, caller, body, forms.choose_flex(_speakers(desk, caller), None, None))


@call
async def create_session_id(desk: Desk, caller: Caller, body: Body) -> Any:
    return await _create_session(desk, caller, body, _known(desk, caller, _text(body, "llm_id")))


@call
async def create_session_flex(desk: Desk, caller: Caller, body: Body) -> Any:
    usable = _speakers(desk, caller)
    return await _create_session(
        desk, caller, body, forms.choose_flex(usable, body.get("filter"), body.get("preference"))
    )


@call
async def interrupt_session(desk: Desk, caller: Caller, body: Body) -> Any:
    desk.gateway.permit(caller, Action.GENERATE)
    session = _session(desk, caller, body)
    desk.interrupt(caller, session.id)
    return forms.running_object(_known(desk, caller, str(session.model)))


@call
async def bare_model(desk: Desk, caller: Caller, body: Body) -> Any:
    return await _bare_model(desk, caller, _known(desk, caller, _text(body, "llm_id")))


@call
async def bare_model_flex(desk: Desk, caller: Caller, body: Body) -> Any:
    desk.gateway.permit(caller, Action.BARE_MODEL)
    usable = _usable(desk, caller, Action.BARE_MODEL)
    return await _bare_model(desk, caller, forms.choose_flex(usable, body.get("filter"), body.get("preference")))


async def _body(request: web.Request) -> Body:
    body = await read_json(request, request.app[GATEWAY].settings)
    if not isinstance(body, dict):
        raise UsageError("Expected a JSON object.")
    return body


def _caller(desk: Desk, body: Body) -> Caller:
    """The app that calls. Its id and key must belong together: a key never speaks for another app."""
    caller = desk.gateway.recognise(_text(body, "api_key"))
    if caller.app is None or caller.app != _text(body, "user_id"):
        raise UnauthorisedError("This key is not that of the user.")
    return caller


def _known(desk: Desk, caller: Caller, text: str) -> forms.Known:
    """The installed model called `text`: its id, name or UUID. Raises ModelNotFoundError."""
    for known in _everything(desk):
        if known.is_called(text):
            return known
    raise ModelNotFoundError(f"There is no model {text[:80]!r}.")


def _everything(desk: Desk) -> list[forms.Known]:
    gateway, selector = desk.gateway, desk.selector()
    running = {entry.model.name for entry in gateway.pool.loaded()}
    return [
        forms.Known(model, selector.identity_of(model).entry, model.name in running) for model in gateway.store.list()
    ]


def _usable(desk: Desk, caller: Caller, action: Action, *, asking: bool = False) -> list[forms.Known]:
    """The models the caller may use so, or at least ask for: a flexible call chooses among these alone."""
    outcomes = ("allowed", "may_ask") if asking else ("allowed",)
    now = time.time()
    return [each for each in _everything(desk) if decide(caller, action, each.model.name, now=now).outcome in outcomes]


def _speakers(desk: Desk, caller: Caller) -> list[forms.Known]:
    desk.gateway.permit(caller, Action.GENERATE)
    return [each for each in _usable(desk, caller, Action.GENERATE) if each.running]


def _ask(desk: Desk, caller: Caller, kind: Kind, action: Action, model: Any, details: Body) -> Body:
    """File a request, if the caller may ask for such things."""
    ruling = decide(caller, action, model, now=time.time())
    if ruling.outcome == "refused":
        raise ForbiddenError(ruling.reason)
    gateway = desk.gateway
    made: AppRequest = ask(gateway.store.database, gateway.settings, caller, kind, details)
    return forms.request_object(gateway.announce(made))


async def _load(desk: Desk, caller: Caller, known: forms.Known) -> Body:
    desk.gateway.permit(caller, Action.LOAD, known.model.name)
    await desk.load(caller, str(known.model.name))
    return forms.running_object(_known(desk, caller, known.uuid))


async def _bare_model(desk: Desk, caller: Caller, known: forms.Known) -> Body:
    _, path = await desk.bare_model(caller, str(known.model.name))
    return {"model": forms.status_object(known), "path": str(path)}


def _session(desk: Desk, caller: Caller, body: Body) -> Session:
    """The caller's session that the body names, with the model that the body names."""
    session = desk.sessions.get(caller.app, _id(body, "session_id"))
    if _id(body, "llm_uuid") != forms.llm_uuid(session.model):
        raise ModelNotFoundError("This session belongs to another model.")
    return session


async def _create_session(desk: Desk, caller: Caller, body: Body, known: forms.Known) -> Body:
    given = body.get("user_session_parameters")
    sampling = forms.sampling_from(given, "user_session_parameters")
    system = given.get("system_prompt") if isinstance(given, dict) else None
    if system is not None and not isinstance(system, str):
        raise UsageError("system_prompt is a text.")
    session = await desk.create_session(caller, known.model, sampling, system)
    return {
        "session_parameters": given or {},
        "llm_status": forms.status_object(known),
        "session_id": session.id,
    }


def _download_details(desk: Desk, entry: Body) -> tuple[Any, Body]:
    """The name a registry entry stands for and what to write down; its URL counts where no catalogue knows it."""
    found = desk.selector().catalogue.find_model(entry["id"])
    model = forms.name_from_id(found.id if found else entry["id"])
    url = entry.get("url")
    details: Body = {"model": str(model), "entry": entry}
    if found is None and isinstance(url, str) and url:
        if not desk.gateway.settings.url_downloads:
            raise ForbiddenError(f"No catalogue knows {entry['id'][:80]!r}, and downloads from a URL are turned off.")
        details["url"] = url[:2000]
    return model, details


def _text(body: Body, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{name} is a text that must be there.")
    return value


def _id(body: Body, name: str) -> str:
    """A UUID in its one written form. Raises UsageError."""
    try:
        return str(uuid.UUID(_text(body, name)))
    except ValueError:
        raise UsageError(f"{name} is not an id.") from None
