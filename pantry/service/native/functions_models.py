"""Functions about models: choosing, asking, loading, unloading, downloading, reading their files."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from pantry.access.requests import approval_needed
from pantry.core.errors import BusyError, ModelNotFoundError, UsageError
from pantry.core.permissions import Action, Caller
from pantry.service.context import ServiceContext
from pantry.service.generation.request import SAMPLING
from pantry.service.generation.text import Completion, write
from pantry.service.models import ModelQuery
from pantry.service.native.calls import Parameters, Partial, Stream, Value, function
from pantry.service.records import answer_object, job_object, model_object, request_object
from pantry.store.models import InstalledModel

if TYPE_CHECKING:
    from pantry.selection import Choice

RETRY_DOWNLOAD = 10  # seconds after which to ask again for a model that is being downloaded
MAX_PROMPT = 16_000_000  # characters; the line and body limits come first


@function(
    "preferred_model", "fallback_mode", "model_requirements", "prefer", "prompt", "messages", "system", "raw", "stream",
    *SAMPLING,
)  # fmt: skip
async def call_llm(service: ServiceContext, caller: Caller, given: Parameters) -> Stream:
    """Ask a model. With `prompt` or `messages` it answers; without it says which model it would be, and why."""
    service.gateway.permit(caller, Action.GENERATE)
    wish = parse_query(given)
    choice, model = await service.models.choose(caller, wish)
    messages = _messages(given)
    if not messages:
        yield choice.to_json()
        return
    if model is None:
        await _ask_for_download(service, caller, choice)
        model = await service.gateway.model(choice.model)
    stream, raw = given.flag("stream"), given.flag("raw")
    if wish.mode == "none":
        _refuse_silent_load(service, caller, model)
    completion = Completion()
    pieces = write(service.gateway, caller, model, messages, given.others(SAMPLING), completion, raw=raw)
    async with contextlib.aclosing(pieces):
        async for text in pieces:
            if stream:
                yield Partial(text=text)
    yield answer_object(model, completion) | {"choice": choice.to_json()}


@function("preferred_model", "fallback_mode", "model_requirements", "prefer")
async def choose(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Which model a call_llm with these parameters would use, and why."""
    service.gateway.permit(caller, Action.GENERATE)
    choice, _ = await service.models.choose(caller, parse_query(given))
    return choice.to_json()


@function()
async def list_models(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """The installed models that the caller may see."""
    return {"models": [model_object(service, model) for model in await service.models.visible(caller)]}


@function("model")
async def load_llm(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Load a model, or ask the user to let it be loaded."""
    name = given.text("model")
    request = await service.models.load(caller, name)
    return {"model": name, "state": "loaded" if request is None else "requested"} | _asked(service, request)


@function("model")
async def unload_llm(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Unload a model, or ask the user to let it be unloaded."""
    name = given.text("model")
    request = await service.models.unload(caller, name)
    return {"model": name, "state": "unloaded" if request is None else "requested"} | _asked(service, request)


@function("model", "url")
async def download_model(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Have a model downloaded, or ask the user to let it be; answers at once, with the job where there is one.

    `url` works where the user turned it on.
    """
    name = given.text("model")
    download = await service.models.download(caller, name, given.optional_text("url", 2000))
    if download is None:
        return {"model": name, "state": "installed"}
    state = {"state": "downloading" if download.job else "requested"}
    job = {"job": job_object(download.job, owner=caller.kind == "owner")} if download.job else {}
    return {"model": name} | state | _asked(service, download.request) | job


@function("model")
async def bare_model(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """The path of a model's verified, read-only file."""
    model, path = await service.models.bare_model(caller, given.text("model"))
    return {"model": model_object(service, model), "path": str(path)}


def parse_query(given: Parameters) -> ModelQuery:
    """The wish in the parameters of a call. A call that names no model may use any that meets its requirements."""
    from pantry.selection import parse_mode

    name = given.optional_text("preferred_model")
    mode = given.optional_text("fallback_mode")
    if mode is None and not name:
        mode = "requirements_load"
    return ModelQuery(
        name or None, parse_mode(mode or "none"), given.texts("model_requirements"), given.texts("prefer")
    )


def _messages(given: Parameters) -> list[dict[str, Any]]:
    prompt, messages = given.optional_text("prompt", MAX_PROMPT), given.given.get("messages")
    if prompt is not None and messages is not None:
        raise UsageError("call_llm takes a prompt or messages, not both.")
    if messages is not None and not (isinstance(messages, list) and all(isinstance(each, dict) for each in messages)):
        raise UsageError('messages of call_llm is a list like [{"role": "user", "content": "Hello"}].')
    system = given.optional_text("system", MAX_PROMPT)
    found = list(messages or []) or ([{"role": "user", "content": prompt}] if prompt is not None else [])
    return [{"role": "system", "content": system}, *found] if system and found else found


def _refuse_silent_load(service: ServiceContext, caller: Caller, model: InstalledModel) -> None:
    """With the mode none nothing is asked of the user: a model that may not be loaded is an error."""
    if caller.kind == "owner" or service.gateway.is_loaded(model.name):
        return
    service.gateway.permit(caller, Action.LOAD, model.name)


async def _ask_for_download(service: ServiceContext, caller: Caller, choice: Choice) -> None:
    download = await service.models.download(caller, choice.model)
    if download is not None and download.request is not None:
        raise approval_needed(download.request, f"{choice.model} would suit and is not installed.")
    if download is not None and download.job is not None:
        raise BusyError(
            f"{choice.model} suits and is being downloaded (job {download.job.id}).",
            hint="Ask again when it is here; pantry jobs shows how far it is.",
            retry_after=RETRY_DOWNLOAD,
        )
    if choice.action != "download":
        raise ModelNotFoundError(f"There is no model {choice.model!r} here.")


def _asked(service: ServiceContext, request: Any) -> dict[str, Any]:
    return {} if request is None else {"request": request_object(service, request)}
