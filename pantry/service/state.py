"""The state behind the HTTP front, and the one way from a request to an engine's answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from pantry.access.apps import caller_of_key, refusal, ruling_on
from pantry.access.requests import approval_needed, ask, describe
from pantry.access.usage import UsageCounter
from pantry.client.discovery import ServiceInfo
from pantry.core.errors import (
    BusyError,
    EngineError,
    PantryError,
    PromptTooLongError,
    UsageError,
)
from pantry.core.faults import record_fault
from pantry.core.paths import Paths
from pantry.core.permissions import Action, Caller
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines.pool import Pool
from pantry.engines.provider import FORMAT as REMOTE
from pantry.engines.worker import Worker
from pantry.evaluation.speeds import Speeds
from pantry.service.generation import sse as _sse
from pantry.service.generation.chunks import Answer, Chunk
from pantry.service.http import caller_of, error_object
from pantry.service.logins import Logins
from pantry.service.metrics import Measure, Metrics
from pantry.service.notify import notify
from pantry.starter import STARTER
from pantry.store.keys import Keys
from pantry.store.models import InstalledModel, Store
from pantry.store.requests import AppRequest, Kind

log = logging.getLogger("pantry.service")
MAX_DOWNLOADS = 3  # that run at once
MAX_ENGINE_ERROR = 1_000_000  # bytes of an engine's error body that are read


@dataclass
class Gateway:
    """What the handlers share."""

    settings: Settings
    paths: Paths
    store: Store
    keys: Keys
    pool: Pool
    metrics: Metrics
    stopping: asyncio.Event
    usage: UsageCounter
    speeds: Speeds
    info: ServiceInfo | None = None
    """Where the service listens, once it does."""
    logins: Logins = field(default_factory=Logins)
    """The browsers that are logged in on the owner's page."""
    downloads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MAX_DOWNLOADS))
    """Held by each download that runs."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Work that goes on beside the requests; ended with the service."""

    async def model(self, text: str) -> InstalledModel:
        """The installed model a request names. Raises ModelNotFoundError with the nearest name.

        The starter is unboxed at its first use, in a thread, since that takes a while.
        """
        name = ModelName.parse(text)
        if name == STARTER and self.store.find(name) is None:
            from pantry.install.starter import install_starter

            return await asyncio.to_thread(install_starter, self.paths)
        return self.store.get(name)

    def is_loaded(self, name: ModelName) -> bool:
        return any(entry.model.name == name for entry in self.pool.loaded())

    def recognise(self, key: str) -> Caller:
        """Who a key belongs to; an app is noted as seen. Raises UnauthorisedError for an unknown or revoked key."""
        caller = caller_of_key(self.store.database, key)
        self.usage.saw(caller.app)
        return caller

    def permit(self, caller: Caller, action: Action, model: ModelName | None = None) -> None:
        """Let an action through. Raises UnauthorisedError or ForbiddenError with the reason."""
        ruling = ruling_on(self.store.database, caller, action, model, self.usage.waiting(caller.app))
        if not ruling.allowed:
            raise refusal(caller, ruling)

    def permit_or_ask(self, caller: Caller, kind: Kind, model: ModelName, details: dict[str, Any]) -> AppRequest | None:
        """None when the caller may do it; else the request that now waits for the user. Raises as `permit` does."""
        action = {"load": Action.LOAD, "unload": Action.UNLOAD, "download": Action.DOWNLOAD}[kind]
        ruling = ruling_on(self.store.database, caller, action, model)
        if ruling.allowed:
            return None
        if ruling.outcome == "refused":
            raise refusal(caller, ruling)
        return self.announce(ask(self.store.database, self.settings, caller, kind, details))

    def announce(self, request: AppRequest) -> AppRequest:
        """Show the user a request that waits for an answer, where the desktop can; the same request."""
        if self.settings.notify and request.state == "pending":
            line = describe(request, self.store, self.paths)
            self.spawn(notify("Pantry", f"{line}. Answer with: pantry page"))
        return request

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine beside the requests."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def permit_answer(self, caller: Caller, model: InstalledModel) -> None:
        """Whether the caller may have an answer of this model, and have it loaded for that if it is not yet.

        Raises ForbiddenError, or ApprovalNeededError when the user was asked to let it be loaded.
        """
        self.permit(caller, Action.GENERATE, model.name)
        if caller.kind == "owner" or model.format == REMOTE or self.is_loaded(model.name):
            return  # at a provider nothing has to be loaded
        name = str(model.name)
        if request := self.permit_or_ask(caller, "load", model.name, {"model": name}):
            raise approval_needed(request, f"{name} is not loaded, and {caller.name} may not load it.")

    async def answer(
        self, request: web.Request, model: InstalledModel, path: str, body: dict[str, Any], answer: Answer
    ) -> web.StreamResponse:
        """Ask an engine and give its answer to the client, as a stream or whole, as `answer` wants it.

        The engine is always asked for a stream; when the client goes away this task is cancelled, the connection to
        the worker closes, and the engine stops.
        """
        async with self._asking(caller_of(request), model, path, body, answer) as (upstream, worker, measure):
            if answer.wanted.stream:
                return await self._stream(request, worker, upstream, answer, measure)
            async for _ in _fed(worker, upstream, answer, measure):
                pass
            return web.json_response(answer.whole())

    async def chunks(
        self, caller: Caller, model: InstalledModel, path: str, body: dict[str, Any], answer: Answer
    ) -> AsyncGenerator[Chunk, None]:
        """The chunks of an answer as objects, for surfaces of another form. Close it to stop the engine."""
        async with self._asking(caller, model, path, body, answer) as (upstream, worker, measure):
            async for out in _fed(worker, upstream, answer, measure):
                for event in _sse.events(out):
                    chunk = _sse.parse(event)
                    if isinstance(chunk, dict) and chunk.get("choices"):
                        yield chunk

    @contextlib.asynccontextmanager
    async def _asking(
        self, caller: Caller, model: InstalledModel, path: str, body: dict[str, Any], answer: Answer
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, Worker, Measure]]:
        """An engine that writes an answer: permitted, measured, counted, and stopped when the block is left."""
        self.permit_answer(caller, model)
        with self.metrics.answering(str(model.name)) as measure:
            async with self.pool.worker_for(model) as worker:
                upstream = await worker.post(path, body)
                try:
                    if upstream.status != 200:
                        raise await _engine_refusal(upstream)
                    yield upstream, worker, measure
                finally:
                    upstream.close()
                    # An answer that was broken off counts as well, by its events: about one a token.
                    used = answer.prompt_tokens + answer.completion_tokens
                    self.usage.add(caller.app, used or measure.events)
            self.speeds.add(model.digest, self.pool.engine_of(model.name), answer.timings)
            measure.count(answer.prompt_tokens, answer.completion_tokens)

    async def _stream(
        self,
        request: web.Request,
        worker: Worker,
        upstream: aiohttp.ClientResponse,
        answer: Answer,
        measure: Measure,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        await response.prepare(request)
        try:
            async for out in _fed(worker, upstream, answer, measure):
                if out:
                    await self.write(request, response, out)
        except PantryError as error:
            # The status line is gone already, so the error travels as the last event, and [DONE] does not come.
            await self.write(request, response, _sse.encode({"error": error_object(error)}))
        except ConnectionResetError:
            raise
        except Exception as error:
            log.exception("a fault in the middle of an answer")
            fault = record_fault(self.paths.fault_log, error, "writing an answer")
            await self.write(request, response, _sse.encode({"error": error_object(fault)}))
        await response.write_eof()
        return response

    async def write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        """Send to the client; one that does not read for too long is let go, so that it does not hold a slot."""
        try:
            async with asyncio.timeout(self.settings.write_timeout):
                await response.write(data)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read its answer") from None


async def _fed(
    worker: Worker, upstream: aiohttp.ClientResponse, answer: Answer, measure: Measure
) -> AsyncGenerator[bytes, None]:
    """Feed an engine's events to `answer` and yield what it gives out. Raises EngineError when they break off."""
    try:
        async for block in _sse.blocks(upstream.content):
            out = answer.feed(block)
            measure.saw(block.count(_sse.END))
            if out or not answer.wanted.stream:
                measure.first()
            yield out
    except TimeoutError as error:
        worker.give_up()
        raise await _broken(worker) from error
    except (aiohttp.ClientError, ValueError) as error:
        raise await _broken(worker, error) from error
    if not answer.done:
        raise await _broken(worker)


async def _engine_refusal(upstream: aiohttp.ClientResponse) -> PantryError:
    """The engine's error response as one of ours."""
    raw = await upstream.content.read(MAX_ENGINE_ERROR)
    try:
        error = json.loads(raw)["error"]
        message = str(error["message"])
    except (ValueError, KeyError, TypeError):
        return EngineError(f"The engine answered with status {upstream.status}.")
    if error.get("type") == "exceed_context_size_error":
        tokens, context = error.get("n_prompt_tokens", 0), error.get("n_ctx", 0)
        return PromptTooLongError(
            f"The prompt has {tokens} tokens; the context holds {context}: {tokens - context} too many.",
            hint="Shorten it, or set a larger context if the model was trained for one (docs/settings.md).",
        )
    if upstream.status == 503:
        return BusyError(f"The engine is not ready: {message}")
    if 400 <= upstream.status < 500:
        return UsageError(f"The engine refuses the request: {message}")
    return EngineError(f"The engine failed: {message}")


async def _broken(worker: Worker, error: Exception | None = None) -> EngineError:
    reason = str(error) if isinstance(error, ValueError) else await worker.last_words()
    return EngineError(
        f"{worker.name} stopped in the middle of its answer: {reason}.", hint="Ask again; it is loaded again then."
    )


GATEWAY = web.AppKey("gateway", Gateway)
"""Where handlers find the shared state."""
