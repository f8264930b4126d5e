"""The app API of Pantry's 2023 release, so that its client library works unchanged.

Every call is `POST /<name>` with a JSON body that carries user_id and api_key; errors are plain text. Field for field
as in JuliaMerz/pantry @ea9cb8e (server) and JuliaMerz/pantry-rs @a53af63 (client). Translates to the service, no more.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Callable
from typing import Any

from aiohttp import web

from pantry.core.errors import ForbiddenError, PantryError, UnauthorisedError, UsageError
from pantry.core.faults import record_fault
from pantry.core.permissions import Action, Caller
from pantry.service.api import _compat2023_forms as forms
from pantry.service.api._compat2023_calls import CALLS, Body, session_of, text_in
from pantry.service.context import CONTEXT, ServiceContext
from pantry.service.generation import sse
from pantry.service.generation.text import Completion
from pantry.service.guard import Handler, check_host, check_origin, check_peer
from pantry.service.http import read_json, send
from pantry.service.state import GATEWAY
from pantry.service.surface import OwnPort
from pantry.store.sessions import Session

log = logging.getLogger("pantry.service")


def build_compat_app(service: ServiceContext) -> web.Application:
    """An application of its own: other paths, other errors, keys in the body."""
    app = web.Application(middlewares=[_guard], client_max_size=service.gateway.settings.max_body)
    app[GATEWAY], app[CONTEXT] = service.gateway, service
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


async def answer(request: web.Request) -> web.Response:
    """Answer a call with JSON."""
    name = request.match_info["name"]
    run = CALLS.get(name)
    if run is None:
        return web.Response(status=404, text=f"There is no call {name[:60]!r}.")
    service, body = request.app[CONTEXT], await _body(request)
    return web.json_response(await run(service, _caller(service, body), body))


async def register_user(request: web.Request) -> web.Response:
    """Register an app; its key in the clear, this once."""
    body = await _body(request)
    app, key = request.app[CONTEXT].registrar.register(text_in(body, "user_name"))
    return web.json_response(forms.user_object(app.id, app.name, key))


async def prompt_session_stream(request: web.Request) -> web.StreamResponse:
    """Answer a prompt as server-sent events, one LLMEvent each."""
    service, body = request.app[CONTEXT], await _body(request)
    caller = _caller(service, body)
    service.gateway.permit(caller, Action.GENERATE)
    session = session_of(service, caller, body)
    prompt, parameters = text_in(body, "prompt"), body.get("parameters") or {}
    make = _events(session, caller, prompt, parameters)
    pieces = service.sessions.say(
        caller, session.id, prompt, forms.sampling_from(parameters, "parameters"), completion := Completion()
    )
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    async with contextlib.aclosing(pieces):
        await response.prepare(request)

        async def tell(event: Body) -> None:
            await send(request, response, sse.encode(make(event)), service.gateway.settings)

        previous = ""
        try:
            async for text in pieces:
                await tell({"type": "PromptProgress", "previous": previous, "next": text})
                previous += text
            await tell({"type": "PromptCompletion", "previous": completion.text})
        except PantryError as error:
            await tell({"type": "PromptError", "message": str(error)})
        except ConnectionResetError:
            raise
        except Exception as error:  # the status line is gone already, so the fault travels in the stream
            log.exception("a fault in the middle of an answer")
            fault = record_fault(service.gateway.paths.fault_log, error, "writing an answer")
            await tell({"type": "PromptError", "message": str(fault)})
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


async def _body(request: web.Request) -> Body:
    body = await read_json(request, request.app[GATEWAY].settings)
    if not isinstance(body, dict):
        raise UsageError("Expected a JSON object.")
    return body


def _caller(service: ServiceContext, body: Body) -> Caller:
    """The app that calls. Its id and key must belong together: a key never speaks for another app."""
    caller = service.gateway.recognise(text_in(body, "api_key"))
    if caller.app is None or caller.app != text_in(body, "user_id"):
        raise UnauthorisedError("This key is not that of the user.")
    return caller


surface = OwnPort(
    is_on=lambda settings: settings.compat_2023,
    port=lambda settings: settings.compat_2023_port,
    socket=lambda settings: settings.compat_2023_socket,
    build=build_compat_app,
)
