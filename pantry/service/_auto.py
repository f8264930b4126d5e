"""`model: "auto"` on the OpenAI surface: what is needed is said in place of a name, and the answer names the choice."""

from __future__ import annotations

from aiohttp import web

from pantry.core.errors import ModelNotFoundError
from pantry.selection.choosing import Choice
from pantry.selection.request import parse_auto, parse_mode
from pantry.service._openai_requests import Needs
from pantry.service.desk import DESK, Wish
from pantry.service.gateway import GATEWAY, caller_of
from pantry.store.models import InstalledModel

CHOICE = web.RequestKey("choice", Choice)
"""Where a request keeps the choice that was made for it."""


async def model_for(request: web.Request, name: str, given: Needs | None) -> InstalledModel:
    """The model that a request names, or the one chosen for `auto`, `auto:tag,key>=n` and the `pantry` object.

    Raises ModelNotFoundError that says what excluded how many.
    """
    desk = request.app[DESK]
    head, _, short = name.partition(":")
    if parse_auto(head, desk.selector().vocabulary) is None:
        return await request.app[GATEWAY].model(name)
    asked = given or Needs()
    needs = (*asked.needs, *(part for part in short.split(",") if part.strip()))
    wish = Wish(needs=needs, prefer=tuple(asked.prefer), mode=parse_mode(asked.fallback_mode))
    choice, model = await desk.choose(caller_of(request), wish)
    if model is None:
        raise ModelNotFoundError(
            f"{choice.model} would do, but it is not installed.", hint=f"pantry pull {choice.model}"
        )
    request[CHOICE] = choice
    return model


async def tell_choice(request: web.Request, response: web.StreamResponse) -> None:
    """Name the chosen model and the reason in the headers of the answer."""
    if choice := request.get(CHOICE):
        response.headers["X-Pantry-Model"] = choice.model
        response.headers["X-Pantry-Reason"] = " ".join(choice.reason.encode("ascii", "replace").decode().split())
