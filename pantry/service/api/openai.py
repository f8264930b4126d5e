"""The OpenAI surface: /v1/models, /v1/chat/completions, /v1/completions."""

from __future__ import annotations

import datetime
import time
from typing import Any

from aiohttp import web

from pantry.core.errors import UsageError
from pantry.core.permissions import Action, decide
from pantry.service.api._auto import model_for
from pantry.service.generation.chunks import Answer
from pantry.service.generation.request import ChatRequest, CompletionRequest, parse_request
from pantry.service.http import caller_of, read_json
from pantry.service.state import GATEWAY
from pantry.starter import STARTER
from pantry.store.models import InstalledModel

routes = web.RouteTableDef()


@routes.post("/v1/chat/completions")
async def chat_completions(request: web.Request) -> web.StreamResponse:
    """Answer a conversation."""
    gateway = request.app[GATEWAY]
    wish = parse_request(ChatRequest, await read_json(request, gateway.settings))
    answer = Answer(wish.wanted())
    model = await model_for(request, wish.model, wish.pantry)
    if not model.facts.get("chat", True):
        raise UsageError(
            f"{model.name} has no chat template: it continues text and holds no conversation.",
            hint="Use /v1/completions with a prompt.",
        )
    return await gateway.answer(request, model, "/v1/chat/completions", wish.for_engine(), answer)


@routes.post("/v1/completions")
async def completions(request: web.Request) -> web.StreamResponse:
    """Continue a text."""
    gateway = request.app[GATEWAY]
    wish = parse_request(CompletionRequest, await read_json(request, gateway.settings))
    answer = Answer(wish.wanted())
    model = await model_for(request, wish.model, wish.pantry)
    return await gateway.answer(request, model, "/v1/completions", wish.for_engine(), answer)


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
