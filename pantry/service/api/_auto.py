"""`model: "auto"` on the OpenAI surface: what is needed is said in place of a name, and the answer names the choice."""

from __future__ import annotations

from aiohttp import web

from pantry.core.errors import ModelNotFoundError
from pantry.service.api._openai_forms import Needs
from pantry.service.context import CONTEXT
from pantry.service.http import caller_of
from pantry.service.models import ModelQuery
from pantry.service.state import GATEWAY
from pantry.store.models import InstalledModel

AUTO = "auto"
TOLD = web.RequestKey("told", tuple[str, str])
"""Where a request keeps the name of the model that was chosen for it, and the reason."""


async def model_for(request: web.Request, name: str, given: Needs | None) -> InstalledModel:
    """The model that a request names, or the one chosen for `auto`, `auto:tag,key>=n` and the `pantry` object.

    Raises ModelNotFoundError that says what excluded how many.
    """
    head, _, short = name.partition(":")
    if head != AUTO:
        return await request.app[GATEWAY].model(name)
    from pantry.selection import parse_mode  # with the catalogue's rules it takes 50 ms to import

    asked = given or Needs()
    needs = (*asked.needs, *(part for part in short.split(",") if part.strip()))
    query = ModelQuery(needs=needs, prefer=tuple(asked.prefer), mode=parse_mode(asked.fallback_mode))
    choice, model = await request.app[CONTEXT].models.choose(caller_of(request), query)
    if model is None:
        raise ModelNotFoundError(
            f"{choice.model} would do, but it is not installed.", hint=f"pantry pull {choice.model}"
        )
    request[TOLD] = (choice.model, choice.reason)
    return model


async def tell_choice(request: web.Request, response: web.StreamResponse) -> None:
    """Name the chosen model and the reason in the headers of the answer."""
    if told := request.get(TOLD):
        model, reason = told
        response.headers["X-Pantry-Model"] = model
        response.headers["X-Pantry-Reason"] = " ".join(reason.encode("ascii", "replace").decode().split())
