"""window.ai's local server: `POST /completions` and `POST /model`.

Source: alexanderatallah/window.ai @70bddbf. The page that a call is for is an app of its own, named by its origin; it
has to be approved. The origin is the browser's Origin header, or the one that the extension tells in HTTP-Referer.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import Field

from pantry.access.apps import parse_origin
from pantry.access.requests import approval_needed, ask_for_permissions
from pantry.core.errors import PantryError, UsageError
from pantry.core.permissions import Caller, Permission
from pantry.service.generation import sse as _sse
from pantry.service.generation.chunks import Answer, Chunk
from pantry.service.generation.request import MAX_CHOICES, ChatRequest, CompletionRequest, Sampling, parse_request
from pantry.service.http import caller_of, error_object, read_json
from pantry.service.models import DESK, Desk, ModelQuery
from pantry.service.state import GATEWAY
from pantry.store.models import InstalledModel

routes = web.RouteTableDef()


class PageRequest(Sampling):
    """The body of both calls, in window.ai's names."""

    model: str = Field("", max_length=200)
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    stop_sequences: str | list[str] | None = None
    num_generations: int = Field(1, ge=1, le=MAX_CHOICES)

    def fields(self, model: InstalledModel) -> Chunk:
        """The same request in OpenAI's names. Raises UsageError unless it has a prompt or messages."""
        if (self.prompt is None) is (self.messages is None):
            raise UsageError("Send either prompt or messages.")
        given = self.model_dump(
            include={"max_tokens", "temperature", "top_p", "frequency_penalty", "presence_penalty"}, exclude_none=True
        )
        if self.stop_sequences:
            given["stop"] = self.stop_sequences
        return {**given, "model": str(model.name), "n": self.num_generations, "stream": self.stream}


@routes.post("/completions")
async def completions(request: web.Request) -> web.StreamResponse:
    """Answer a page's prompt or messages, as window.ai asks for it."""
    desk = request.app[DESK]
    wish = parse_request(PageRequest, await read_json(request, request.app[GATEWAY].settings))
    caller = page_caller(request, desk)
    model = await _model(desk, caller, wish)
    fields, chat = wish.fields(model), bool(model.facts.get("chat", True))
    parsed: ChatRequest | CompletionRequest
    if chat:
        messages = wish.messages or [{"role": "user", "content": wish.prompt}]
        parsed = parse_request(ChatRequest, fields | {"messages": messages})
    else:
        prompt = wish.prompt or "\n".join(str(each.get("content", "")) for each in wish.messages or [])
        parsed = parse_request(CompletionRequest, fields | {"prompt": prompt})
    answer = Answer(parsed.wanted())
    path = "/v1/chat/completions" if chat else "/v1/completions"
    async with contextlib.aclosing(desk.gateway.chunks(caller, model, path, parsed.for_engine(), answer)) as chunks:
        if not wish.stream:
            async for _ in chunks:
                pass
            return web.json_response({"choices": [{"text": _text(each)} for each in answer.whole()["choices"]]})
        return await _stream(request, chunks)


@routes.post("/model")
async def model(request: web.Request) -> web.Response:
    """The model that a page's request would be answered by."""
    desk = request.app[DESK]
    wish = parse_request(PageRequest, await read_json(request, request.app[GATEWAY].settings))
    found = await _model(desk, page_caller(request, desk), wish)
    return web.json_response({"id": str(found.name)})


async def _stream(request: web.Request, chunks: Any) -> web.StreamResponse:
    gateway = request.app[GATEWAY]
    first = await anext(chunks, None)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    try:
        while first is not None:
            texts = [{"text": _text(each), "index": each["index"]} for each in first["choices"]]
            if any(each["text"] for each in texts):
                await gateway.write(request, response, _sse.encode({"choices": texts}))
            first = await anext(chunks, None)
        await gateway.write(request, response, _sse.DONE)
    except PantryError as error:
        await gateway.write(request, response, _sse.encode({"error": error_object(error)}))
    await response.write_eof()
    return response


def page_caller(request: web.Request, desk: Desk) -> Caller:
    """Who the call is for. With the owner's key it is the page's app; an app's key speaks for that app alone.

    Raises ApprovalNeededError, and asks the user, for a page that was not approved yet.
    """
    caller = caller_of(request)
    origin = _origin(request)
    if caller.kind != "owner" or origin is None:
        return caller
    app = desk.registrar.of_origin(origin, unquote(request.headers.get("X-WINDOWAI-TITLE", ""))[:200])
    desk.gateway.usage.saw(app.id)
    page = app.caller()
    if not page.holds(Permission.SESSION, time.time()):
        gateway = desk.gateway
        wanted = [Permission.SESSION, Permission.REQUEST_LOAD]  # else it works only while its model is loaded
        asked = ask_for_permissions(gateway.store.database, gateway.settings, page, wanted, origin)
        if not asked.accepted:
            raise approval_needed(gateway.announce(asked), f"Pages of {origin} are not approved.")
        return desk.registrar.of_origin(origin, "").caller()
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


async def _model(desk: Desk, caller: Caller, wish: PageRequest) -> InstalledModel:
    """The model a page named, else the best that is installed and that it may use."""
    if wish.model:
        return await desk.gateway.model(wish.model)
    choice, found = await desk.choose(caller, ModelQuery(mode="requirements_load"))
    return found or await desk.gateway.model(choice.model)


def _text(part: Chunk) -> str:
    said = part.get("message") or part.get("delta") or part
    return str(said.get("content") or said.get("text") or "")
