"""Asking an engine: permitted, measured, counted, and stopped when the client goes away."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from pantry.core.errors import BusyError, EngineError, PantryError, PromptTooLongError, UsageError
from pantry.core.faults import record_fault
from pantry.core.permissions import Caller
from pantry.core.settings import Settings
from pantry.engines.worker import Worker
from pantry.service.generation import sse
from pantry.service.generation.engine_stream import EngineReader
from pantry.service.generation.events import Event, Failure
from pantry.service.generation.expectation import Expectation
from pantry.service.generation.request import GenerationRequest
from pantry.service.http import caller_of, send
from pantry.service.metrics import Measure
from pantry.service.state import GATEWAY, Gateway
from pantry.store.models import InstalledModel

log = logging.getLogger("pantry.service")
MAX_ENGINE_ERROR = 1_000_000  # bytes of an engine's error body that are read


class Translator(Protocol):
    """What a surface makes of a generation. One object serves one answer; no I/O."""

    content_type: str
    """Of a stream."""
    splices: bool
    """Whether the engine's own deltas are this surface's form and may be passed on unread."""

    def feed(self, event: Event) -> bytes:
        """What a streaming client gets for an event; empty for nothing."""

    def end(self) -> bytes:
        """What ends a stream that did not fail."""

    def whole(self) -> dict[str, Any]:
        """The answer in one object, once every event was fed."""


@dataclass
class _Running:
    """A generation that an engine works on."""

    worker: Worker
    upstream: aiohttp.ClientResponse
    reader: EngineReader
    expectation: Expectation
    measure: Measure

    async def blocks(self) -> AsyncGenerator[bytes, None]:
        """The engine's stream in blocks of whole events. Raises EngineError when it breaks off."""
        try:
            async for block in sse.blocks(self.upstream.content):
                self.measure.saw(block.count(sse.END))
                yield block
        except TimeoutError as error:
            self.worker.give_up()
            raise await _broken(self.worker) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise await _broken(self.worker, error) from error
        if not self.reader.done:
            raise await _broken(self.worker)

    def events(self, block: bytes) -> Iterator[Event]:
        """The events of a block, each held to what was asked for."""
        try:
            for event in self.reader.feed(block):
                self.expectation.feed(event)
                self.measure.first()
                yield event
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise EngineError(f"The engine sent what cannot be read: {error!r}"[:500]) from error


async def generate(
    gateway: Gateway, caller: Caller, model: InstalledModel, request: GenerationRequest
) -> AsyncGenerator[Event, None]:
    """The events of a generation. Close the generator to stop the engine. Raises what stops it."""
    async with _asking(gateway, caller, model, request) as running, contextlib.aclosing(running.blocks()) as blocks:
        async for block in blocks:
            for event in running.events(block):
                yield event


async def respond(
    request: web.Request, model: InstalledModel, wanted: GenerationRequest, translator: Translator, *, stream: bool
) -> web.StreamResponse:
    """Answer an HTTP client in the form of a surface, as a stream or whole.

    The engine is always asked for a stream; when the client goes away this task is cancelled, the connection to the
    worker closes, and the engine stops.
    """
    gateway = request.app[GATEWAY]
    async with _asking(gateway, caller_of(request), model, wanted) as running:
        if stream:
            return await _stream(request, running, translator)
        async for block in running.blocks():
            for event in running.events(block):
                translator.feed(event)
        return web.json_response(translator.whole())


async def _stream(request: web.Request, running: _Running, translator: Translator) -> web.StreamResponse:
    settings = request.app[GATEWAY].settings
    response = web.StreamResponse(headers={"Content-Type": translator.content_type, "Cache-Control": "no-cache"})
    await response.prepare(request)
    out: list[bytes] = []  # what was translated and is not sent yet: it goes out before an error
    try:
        async for block in running.blocks():
            if translator.splices and running.reader.is_plain(block):
                out.append(block)
            else:
                for event in running.events(block):
                    out.append(translator.feed(event))  # noqa: PERF401 (kept when a later event raises)
            await _flush(request, response, out, settings)
        out.append(translator.end())
    except PantryError as error:  # the status line is gone already, so the error travels in the stream
        out.append(translator.feed(Failure(error)))
    except ConnectionResetError:
        raise
    except Exception as error:
        log.exception("a fault in the middle of an answer")
        fault = record_fault(request.app[GATEWAY].paths.fault_log, error, "writing an answer")
        out.append(translator.feed(Failure(fault)))
    await _flush(request, response, out, settings)
    await response.write_eof()
    return response


async def _flush(request: web.Request, response: web.StreamResponse, out: list[bytes], settings: Settings) -> None:
    data = b"".join(out)
    out.clear()
    if data:
        await send(request, response, data, settings)


@contextlib.asynccontextmanager
async def _asking(
    gateway: Gateway, caller: Caller, model: InstalledModel, request: GenerationRequest
) -> AsyncIterator[_Running]:
    """An engine at work; it is stopped when the block is left."""
    gateway.permit_answer(caller, model)
    reader = EngineReader(request)
    path, body = request.for_engine()
    with gateway.metrics.answering(str(model.name)) as measure:
        async with gateway.pool.worker_for(model) as worker:
            upstream = await worker.post(path, body)
            try:
                if upstream.status != 200:
                    raise await _engine_refusal(upstream)
                yield _Running(worker, upstream, reader, Expectation(request), measure)
            finally:
                upstream.close()
                # An answer that was broken off counts as well, by its events: about one a token.
                used = reader.usage.prompt_tokens + reader.usage.completion_tokens
                gateway.usage.add(caller.app, used or measure.events)
        gateway.speeds.add(model.digest, gateway.pool.engine_of(model.name), reader.usage.timings)
        measure.count(reader.usage.prompt_tokens, reader.usage.completion_tokens)


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
