"""window.ai's local server: `POST /completions` and `POST /model`.

Source: alexanderatallah/window.ai @70bddbf. The page that a call is for is an app of its own, named by its origin; it
has to be approved. The origin is the browser's Origin header, or the one that the extension tells in HTTP-Referer.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import Field

from pantry.access.apps import parse_origin
from pantry.access.requests import approval_needed, ask_for_permissions
from pantry.core.errors import UsageError
from pantry.core.permissions import Caller, Permission
from pantry.service.context import CONTEXT, ServiceContext
from pantry.service.generation import sse
from pantry.service.generation.answer import respond
from pantry.service.generation.collected import Collected
from pantry.service.generation.events import Event, Failure, TextDelta
from pantry.service.generation.request import MAX_CHOICES, GenerationRequest, Sampling, parse_body
from pantry.service.generation.text import request_for
from pantry.service.http import CALLER, caller_of, error_object, read_json
from pantry.service.models import ModelQuery
from pantry.service.state import GATEWAY
from pantry.service.surface import Surface
from pantry.store.models import InstalledModel

routes = web.RouteTableDef()
surface = Surface(routes, key_header="X-API-KEY", for_pages=True)


class PageRequest(Sampling):
    """The body of both calls, in window.ai's names."""

    model: str = Field("", max_length=200)
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    stop_sequences: str | list[str] | None = None
    num_generations: int = Field(1, ge=1, le=MAX_CHOICES)
    stream: bool = False

    def generation(self, model: InstalledModel) -> GenerationRequest:
        """The request behind this body. Raises UsageError unless it has a prompt or messages."""
        if (self.prompt is None) is (self.messages is None):
            raise UsageError("Send either prompt or messages.")
        given = self.model_dump(include=_TAKEN, exclude_none=True)
        if self.stop_sequences:
            given["stop"] = self.stop_sequences
        messages = self.messages if self.messages is not None else [{"role": "user", "content": self.prompt}]
        return request_for(model, messages, parse_body(Sampling, given), n=self.num_generations)


_TAKEN = {"max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty"}
"""The generation parameters that window.ai knows."""


class PageChunks:
    """Answers as window.ai's client reads them."""

    content_type, splices = "text/event-stream", False

    def __init__(self, *, stream: bool) -> None:
        self._streams, self._collected = stream, Collected()

    def feed(self, event: Event) -> bytes:
        if isinstance(event, Failure):
            return sse.encode({"error": error_object(event.error)})
        if not self._streams:
            self._collected.feed(event)
        elif isinstance(event, TextDelta) and event.text:
            return sse.encode({"choices": [{"text": event.text, "index": event.choice}]})
        return b""

    def end(self) -> bytes:
        return sse.DONE

    def whole(self) -> dict[str, Any]:
        return {"choices": [{"text": answer.text} for _, answer in self._collected.in_order()]}


@routes.post("/completions")
async def completions(request: web.Request) -> web.StreamResponse:
    """Answer a page's prompt or messages, as window.ai asks for it."""
    service = request.app[CONTEXT]
    asked = parse_body(PageRequest, await read_json(request, request.app[GATEWAY].settings))
    caller = request[CALLER] = page_caller(request, service)
    model = await _model(service, caller, asked)
    return await respond(request, model, asked.generation(model), PageChunks(stream=asked.stream), stream=asked.stream)


@routes.post("/model")
async def model(request: web.Request) -> web.Response:
    """The model that a page's request would be answered by."""
    service = request.app[CONTEXT]
    asked = parse_body(PageRequest, await read_json(request, request.app[GATEWAY].settings))
    found = await _model(service, page_caller(request, service), asked)
    return web.json_response({"id": str(found.name)})


def page_caller(request: web.Request, service: ServiceContext) -> Caller:
    """Who the call is for. With the owner's key it is the page's app; an app's key speaks for that app alone.

    Raises ApprovalNeededError, and asks the user, for a page that was not approved yet.
    """
    caller = caller_of(request)
    origin = _origin(request)
    if caller.kind != "owner" or origin is None:
        return caller
    app = service.registrar.of_origin(origin, unquote(request.headers.get("X-WINDOWAI-TITLE", ""))[:200])
    service.gateway.usage.saw(app.id)
    page = app.caller()
    if not page.holds(Permission.SESSION, time.time()):
        gateway = service.gateway
        wanted = [Permission.SESSION, Permission.REQUEST_LOAD]  # else it works only while its model is loaded
        asked = ask_for_permissions(gateway.store.database, gateway.settings, page, wanted, origin)
        if not asked.accepted:
            raise approval_needed(gateway.announce(asked), f"Pages of {origin} are not approved.")
        return service.registrar.of_origin(origin, "").caller()
    return page


def _origin(request: web.Request) -> str | None:
    """The origin of the page a call is for; None for a program. Raises UsageError when it makes no sense."""
    told = request.headers.get("Origin")
    if told is not None and told.startswith(("http://", "https://")):
        return parse_origin(told)
    referer = request.headers.get("HTTP-Referer") or request.headers.get("Referer")
    if not referer:
        return None
    return parse_origin(referer)


async def _model(service: ServiceContext, caller: Caller, asked: PageRequest) -> InstalledModel:
    """The model a page named, else the best that is installed and that it may use."""
    if asked.model:
        return await service.gateway.model(asked.model)
    choice, found = await service.models.choose(caller, ModelQuery(mode="requirements_load"))
    return found or await service.gateway.model(choice.model)
