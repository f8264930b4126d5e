"""What callers can have done, once for every surface: choose, load, unload, download, generate, converse.

The surfaces (native, 2023, window.ai) translate their words into these calls and the results back; permission is
checked here and in the gateway, nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from pantry.access.apps import Registrar
from pantry.access.requests import start_job
from pantry.core.errors import ConflictError, ForbiddenError, ModelNotFoundError, PantryError, UsageError, did_you_mean
from pantry.core.permissions import Action, Caller, decide
from pantry.core.refs import ModelName
from pantry.service.generation.chunks import Answer
from pantry.service.generation.request import ChatRequest, CompletionRequest, parse_request
from pantry.service.jobs import JobRunner, download
from pantry.service.session_store import Message, SessionBook
from pantry.service.state import Gateway
from pantry.starter import STARTER
from pantry.store.models import InstalledModel, Store
from pantry.store.requests import AppRequest
from pantry.store.sessions import Session

if TYPE_CHECKING:
    from pantry.selection import Choice, Fallback
    from pantry.selection.selector import Selector

SELECTOR_AGE = 30.0  # seconds after which the catalogue is read again
QUEUE = 64  # pieces of a session's answer that wait for a slow reader
SAMPLING = frozenset(
    {
        "max_tokens", "stop", "seed", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "frequency_penalty",
        "presence_penalty", "logit_bias", "response_format",
    }
)  # fmt: skip
"""The generation parameters of every surface."""


@dataclass(frozen=True)
class ModelQuery:
    """Which model is wanted: by name, by requirements, or both."""

    model: str | None = None
    mode: Fallback = "none"
    needs: Sequence[str] = ()
    prefer: Sequence[str] = ()


@dataclass
class Completion:
    """An answer as it grows. Token counts are complete at its end."""

    parts: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def text(self) -> str:
        return "".join(self.parts)


class Desk:
    """The one place where surfaces have things done."""

    def __init__(self, gateway: Gateway, runner: JobRunner) -> None:
        self.gateway, self.runner = gateway, runner
        self.registrar = Registrar(gateway.store.database, gateway.settings)
        self.sessions = SessionBook(gateway.store.database, gateway.settings)
        self._talking: dict[str, asyncio.Task[None]] = {}
        self._selector: tuple[float, tuple[int, ...], Selector] | None = None

    # Models

    async def visible(self, caller: Caller) -> list[InstalledModel]:
        """The installed models that the caller may see. Raises ForbiddenError when it may see none at all."""
        self.gateway.permit(caller, Action.VIEW)
        now = time.time()
        found = self.gateway.store.list()
        if STARTER not in {model.name for model in found}:
            with contextlib.suppress(PantryError):  # a policy may not want it; the others are there all the same
                found.append(await self.gateway.model(str(STARTER)))
        return [model for model in found if decide(caller, Action.VIEW, model.name, now=now).allowed]

    async def choose(self, caller: Caller, wish: ModelQuery) -> tuple[Choice, InstalledModel | None]:
        """The model that meets a wish, and why; None where it is not installed.

        Apps choose among the models they may use. Raises ModelNotFoundError that says what excluded how many.
        """
        from pantry.evaluation.evidence import evidence_of
        from pantry.selection import Request, parse_needs, parse_preferences

        gateway, now = self.gateway, time.time()
        selector = await asyncio.to_thread(self.selector)  # a new catalogue is indexed, the memory measured
        if wish.model is not None:
            with contextlib.suppress(ModelNotFoundError):
                await gateway.model(wish.model)
        model = str(ModelName.parse(wish.model)) if wish.model is not None else None
        needs = parse_needs(",".join(wish.needs), selector.vocabulary)
        request = Request(needs, parse_preferences(list(wish.prefer), selector.vocabulary), wish.mode, model)
        usable = [each for each in gateway.store.list() if decide(caller, Action.GENERATE, each.name, now=now).allowed]
        loaded = [str(entry.model.name) for entry in gateway.pool.loaded()]
        choice = selector.choose(request, usable, loaded, evidence_of(gateway.store.database))
        return choice, next((each for each in usable if str(each.name) == choice.model), None)

    def selector(self) -> Selector:
        """The rules of choice over the policy as it is and the catalogue as read lately; loaded at the first choice."""
        from pantry.catalogue.lookup import Catalogue
        from pantry.policy.file import policy_mark
        from pantry.selection.selector import open_selector

        moment, mark = time.monotonic(), policy_mark(self.gateway.paths)
        kept = self._selector
        if kept is None or kept[0] < moment - SELECTOR_AGE or kept[1] != mark:
            catalogue = Catalogue.open(self.gateway.paths)
            made = open_selector(self.gateway.paths, catalogue, room=self.gateway.pool.budget)
            kept = self._selector = (moment, mark, made)
        return kept[2]

    async def load(self, caller: Caller, name: str) -> AppRequest | None:
        """Load a model; None when that is done, else the request that waits for the user.

        For models at a provider loading, unloading and downloading succeed at once.
        """
        model = await self.gateway.model(name)
        request = self.gateway.permit_or_ask(caller, "load", model.name, {"model": str(model.name)})
        if request is None and not model.remote:
            await self.gateway.pool.load(model)
        return self._woken(request)

    async def unload(self, caller: Caller, name: str) -> AppRequest | None:
        """Unload a model; None when that is done, else the request that waits for the user."""
        model = await self.gateway.model(name)
        request = self.gateway.permit_or_ask(caller, "unload", model.name, {"model": str(model.name)})
        if request is None and not model.remote:
            await self.gateway.pool.unload(model.name)
        return self._woken(request)

    async def download(
        self, caller: Caller, name: str, url: str | None = None, entry: Mapping[str, Any] | None = None
    ) -> AppRequest | None:
        """Have a model downloaded; None when it is here, else the request that waits or is being done.

        Raises ForbiddenError for a URL while the setting url_downloads is off.
        """
        if url is not None and not self.gateway.settings.url_downloads:
            raise ForbiddenError(
                "Downloads from a URL are turned off.", hint="Turn them on with the setting url_downloads."
            )
        model = ModelName.parse(name)
        details = {"model": str(model), **({"url": url} if url else {}), **({"entry": dict(entry)} if entry else {})}
        request = self.gateway.permit_or_ask(caller, "download", model, details)
        if request is None and await self._is_installed(model):
            return None
        if request is None and caller.kind == "owner":
            await download(self.gateway, str(model), url, lambda done, total: None)
            return None
        return self._woken(request or start_job(self.gateway.store.database, caller, "download", details))

    async def bare_model(self, caller: Caller, name: str) -> tuple[InstalledModel, Path]:
        """The verified file of a model, or the folder of its files, which nobody may write to, to be run elsewhere.

        Raises ForbiddenError, or UsageError for a model at a provider.
        """
        model = await self.gateway.model(name)
        self.gateway.permit(caller, Action.BARE_MODEL, model.name)
        if model.remote:
            raise UsageError(f"{model.name} runs at a provider; there is no file of it here.")

        def verified() -> Path:
            with Store.open(self.gateway.paths) as store:  # SQLite connections belong to their thread
                return store.verified_path(model)

        return model, await asyncio.to_thread(verified)

    async def _is_installed(self, name: ModelName) -> bool:
        with contextlib.suppress(ModelNotFoundError):
            await self.gateway.model(str(name))
            return True
        return False

    def _woken(self, request: AppRequest | None) -> AppRequest | None:
        if request is not None and request.state == "approved":
            self.runner.wake()
        return request

    # Text

    async def write(
        self,
        caller: Caller,
        model: InstalledModel,
        messages: Sequence[Mapping[str, Any]],
        parameters: Mapping[str, Any],
        written: Completion,
        *,
        raw: bool = False,
    ) -> AsyncGenerator[str, None]:
        """The answer to a conversation, in pieces; closing the generator stops the engine.

        A model without a chat template, and any model when `raw` is set, continues the contents of the messages.
        Raises UsageError for a bad parameter, and whatever the gateway raises.
        """
        body: dict[str, Any] = {**checked_sampling(parameters), "model": str(model.name), "stream": True}
        chat = not raw and bool(model.facts.get("chat", True))
        wish: ChatRequest | CompletionRequest
        if chat:
            wish = parse_request(ChatRequest, body | {"messages": list(messages)})
        else:
            prompt = "\n".join(str(message.get("content", "")) for message in messages)
            wish = parse_request(CompletionRequest, body | {"prompt": prompt})
        answer = Answer(wish.wanted())
        path = "/v1/chat/completions" if chat else "/v1/completions"
        chunks = self.gateway.chunks(caller, model, path, wish.for_engine(), answer)
        try:
            async with contextlib.aclosing(chunks):
                async for chunk in chunks:
                    part = chunk["choices"][0]
                    written.finish_reason = part.get("finish_reason") or written.finish_reason
                    text = (part.get("delta") or {}).get("content") if chat else part.get("text")
                    if text:
                        written.parts.append(text)
                        yield text
        finally:
            written.prompt_tokens, written.completion_tokens = answer.prompt_tokens, answer.completion_tokens
            written.cached_tokens = answer.cached_tokens

    # Sessions

    async def create_session(
        self, caller: Caller, model: InstalledModel, parameters: Mapping[str, Any], system: str | None = None
    ) -> Session:
        """Start a conversation that the service keeps. Raises ForbiddenError, or UsageError for a bad parameter."""
        self.gateway.permit(caller, Action.GENERATE, model.name)
        given = checked_sampling(parameters)
        parse_request(CompletionRequest, {**given, "model": str(model.name), "prompt": "a"}).schema_wanted()
        await self.unlock_sessions()
        return self.sessions.create(caller.app, model.name, given, system)

    async def unlock_sessions(self) -> None:
        """Have the key of encrypted sessions ready; a keyring that asks its user holds up this caller only."""
        await asyncio.to_thread(self.sessions.unlock)

    async def say(
        self, caller: Caller, id: str, prompt: str, parameters: Mapping[str, Any], written: Completion
    ) -> AsyncGenerator[str, None]:
        """The answer to the next turn of a session, in pieces.

        The turn is kept when its answer is complete, was interrupted, or its reader left; not when it failed. Raises
        ConflictError while another turn is being answered.
        """
        session = self.sessions.get(caller.app, id)
        await self.unlock_sessions()
        model = await self.gateway.model(str(session.model))
        if session.id in self._talking:
            raise ConflictError("This session is answering already.", hint="Wait, or use interrupt_session.")
        history = [*self.sessions.messages(session), {"role": "user", "content": prompt}]
        given = {**session.parameters, **checked_sampling(parameters)}
        pieces: asyncio.Queue[str | PantryError | None] = asyncio.Queue(QUEUE)
        task = asyncio.create_task(self._pump(caller, model, history, given, written, pieces))
        self._talking[session.id] = task
        failed = False
        try:
            while (piece := await _next_piece(pieces, task)) is not None:
                if isinstance(piece, PantryError):
                    failed = True
                    raise piece
                yield piece
            if not task.cancelled():
                task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            del self._talking[session.id]
            if not failed and (written.parts or written.finish_reason):
                self.sessions.record(session, prompt, written.text)

    async def _pump(
        self,
        caller: Caller,
        model: InstalledModel,
        history: list[Message],
        parameters: Mapping[str, Any],
        written: Completion,
        pieces: asyncio.Queue[str | PantryError | None],
    ) -> None:
        """Write an answer into a queue, in a task of its own so that it can be interrupted from elsewhere."""
        try:
            async with contextlib.aclosing(self.write(caller, model, history, parameters, written)) as stream:
                async for text in stream:
                    await pieces.put(text)
        except PantryError as error:
            await pieces.put(error)
        else:
            await pieces.put(None)

    def interrupt(self, caller: Caller, id: str) -> bool:
        """Stop the answer a session is writing; what was written is kept. False when it writes none."""
        session = self.sessions.get(caller.app, id)
        task = self._talking.get(session.id)
        if task is None or task.done():
            return False
        task.cancel()
        return True

    def delete_session(self, caller: Caller, id: str) -> None:
        """Stop and delete a session. Raises NotFoundError."""
        self.interrupt(caller, id)
        self.sessions.delete(caller.app, id)


async def _next_piece(pieces: asyncio.Queue[str | PantryError | None], task: asyncio.Task[None]) -> Any:
    """The next piece, None at the end; also when the task was interrupted and nothing more will come."""
    if pieces.empty() and not task.done():
        waiting = asyncio.create_task(pieces.get())
        try:
            await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        finally:
            waiting.cancel()
    return None if pieces.empty() else pieces.get_nowait()


def checked_sampling(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The generation parameters. Raises UsageError for one that does not exist, with the nearest name."""
    for name in parameters:
        if name not in SAMPLING:
            raise UsageError(
                f"There is no generation parameter {name[:60]!r}.",
                hint=did_you_mean(name, SAMPLING, f"Known: {', '.join(sorted(SAMPLING))}."),
            )
    return {name: value for name, value in parameters.items() if value is not None}


DESK = web.AppKey("desk", Desk)
"""Where handlers find the desk."""
