"""The OpenAI surface: /v1/models, /v1/chat/completions, /v1/completions."""

from __future__ import annotations

import datetime
import time
from typing import Any

from aiohttp import web

from pantry.core.errors import UsageError
from pantry.core.permissions import Action, decide
from pantry.service.api._auto import model_for
from pantry.service.api._openai_chunks import ChatChunks, CompletionChunks
from pantry.service.api._openai_forms import INNER_FIELDS, ChatRequest, CompletionRequest
from pantry.service.generation.answer import respond
from pantry.service.generation.request import parse_body
from pantry.service.http import caller_of, read_json
from pantry.service.state import GATEWAY
from pantry.service.surface import Surface
from pantry.starter import STARTER
from pantry.store.models import InstalledModel

routes = web.RouteTableDef()
surface = Surface(routes)


@routes.post("/v1/chat/completions")
async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    asked = parse_body(ChatRequest, await read_json(request, request.app[GATEWAY].settings), INNER_FIELDS)
    generation = asked.generation()
    model = await model_for(request, asked.model, asked.pantry)
    if not model.facts.get("chat", True):
        raise UsageError(
            f"{model.name} has no chat template: it continues text and holds no conversation.",
            hint="Use /v1/completions with a prompt.",
        )
    chunks = ChatChunks(generation, stream=asked.stream, include_usage=asked.wants_usage)
    return await respond(request, model, generation, chunks, stream=asked.stream)


@routes.post("/v1/completions")
async def completions(request: web.Request) -> web.StreamResponse:
    """Continue a text."""
    asked = parse_body(CompletionRequest, await read_json(request, request.app[GATEWAY].settings), INNER_FIELDS)
    generation = asked.generation()
    model = await model_for(request, asked.model, asked.pantry)
    chunks = CompletionChunks(generation, stream=asked.stream, include_usage=asked.wants_usage, echo=asked.echoed)
    return await respond(request, model, generation, chunks, stream=asked.stream)


@routes.get("/v1/models")
async def models(request: web.Request) -> web.Response:
    """All models a request may name."""
    gateway, caller = request.app[GATEWAY], caller_of(request)
    gateway.permit(caller, Action.VIEW)
    installed = gateway.store.list()
    listed = [
        model_object(model) for model in installed if decide(caller, Action.VIEW, model.name, now=time.time()).allowed
    ]
    if STARTER not in {model.name for model in installed}:
        listed.append({"id": str(STARTER), "object": "model", "created": 0, "owned_by": "pantry"})
    return web.json_response({"object": "list", "data": listed})


@routes.get("/v1/models/{name}")
async def model(request: web.Request) -> web.Response:
    """One model."""
    gateway = request.app[GATEWAY]
    found = await gateway.model(request.match_info["name"])
    gateway.permit(caller_of(request), Action.VIEW, found.name)
    return web.json_response(model_object(found))


def model_object(model: InstalledModel) -> dict[str, Any]:
    """A model in OpenAI's form, with Pantry's facts under a key of their own."""
    created = int(datetime.datetime.fromisoformat(model.added_at).timestamp())
    facts = {key: value for key, value in model.facts.items() if value is not None}
    return {
        "id": str(model.name),
        "object": "model",
        "created": created,
        "owned_by": "pantry",
        "pantry": {"digest": str(model.digest), "size": model.size, "format": model.format, **facts},
    }
