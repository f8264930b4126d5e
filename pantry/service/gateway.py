"""The state behind the HTTP front, and the one way from a request to an engine's answer."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from pantry.core.errors import (
    BusyError,
    EngineError,
    PantryError,
    PromptTooLongError,
    TooLargeError,
    UsageError,
)
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines.pool import Pool
from pantry.engines.worker import Worker
from pantry.operations.starter import find_model
from pantry.service import _sse
from pantry.service._openai_chunks import Answer
from pantry.service.metrics import Measure, Metrics
from pantry.store.keys import Keys
from pantry.store.models import InstalledModel, Store

LONGEST_ENGINE_ERROR = 1_000_000  # bytes of an engine's error body that are read


@dataclass
class Gateway:
    """What the handlers share."""

    settings: Settings
    store: Store
    keys: Keys
    pool: Pool
    metrics: Metrics
    stopping: asyncio.Event

    def model(self, text: str) -> InstalledModel:
        """The installed model a request names. Raises ModelNotFoundError with the nearest name."""
        return find_model(self.store, ModelName.parse(text))

    async def answer(
        self, request: web.Request, model: InstalledModel, path: str, body: dict[str, Any], answer: Answer
    ) -> web.StreamResponse:
        """Ask an engine and give its answer to the client, as a stream or whole, as `answer` wants it.

        The engine is always asked for a stream; when the client goes away this task is cancelled, the connection to
        the worker closes, and the engine stops.
        """
        with self.metrics.answering(str(model.name)) as measure:
            async with self.pool.worker_for(model) as worker:
                upstream = await worker.post(path, body)
                try:
                    if upstream.status != 200:
                        raise await _engine_refusal(upstream)
                    if answer.wanted.stream:
                        response = await self._stream(request, worker, upstream, answer, measure)
                    else:
                        response = await self._whole(worker, upstream, answer, measure)
                finally:
                    upstream.close()
            measure.count(answer.prompt_tokens, answer.completion_tokens)
            return response

    async def _whole(
        self, worker: Worker, upstream: aiohttp.ClientResponse, answer: Answer, measure: Measure
    ) -> web.Response:
        try:
            async for block in _sse.blocks(upstream.content):
                measure.first()
                answer.feed(block)
        except (aiohttp.ClientError, ValueError) as error:
            raise await _broken(worker, error) from error
        if not answer.done:
            raise await _broken(worker)
        return web.json_response(answer.whole())

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
            try:
                async for block in _sse.blocks(upstream.content):
                    if out := answer.feed(block):
                        measure.first()
                        await self._write(request, response, out)
            except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ValueError) as error:
                raise await _broken(worker, error) from error
            if not answer.done:
                raise await _broken(worker)
        except PantryError as error:
            # The status line is gone already, so the error travels as the last event, and [DONE] does not come.
            await self._write(request, response, _sse.encode({"error": error_object(error)}))
        await response.write_eof()
        return response

    async def _write(self, request: web.Request, response: web.StreamResponse, data: bytes) -> None:
        """Send to the client; one that does not read for too long is let go, so that it does not hold a slot."""
        try:
            async with asyncio.timeout(self.settings.write_timeout):
                await response.write(data)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("the client does not read its answer") from None


async def read_json(request: web.Request, settings: Settings) -> Any:
    """The JSON body of a request. Raises TooLargeError, or UsageError when it does not come in time or parse."""
    too_large = TooLargeError(f"The request body is over {settings.max_body} bytes.")
    if (request.content_length or 0) > settings.max_body:
        raise too_large
    try:
        async with asyncio.timeout(settings.body_timeout):
            raw = await request.read()
    except TimeoutError:
        raise UsageError(f"The request body did not come within {settings.body_timeout:.0f} seconds.") from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"The request body is not JSON: {what}.") from None


def error_object(error: PantryError) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return {"message": str(error), "type": kind, "code": error.code, "param": None}


async def _engine_refusal(upstream: aiohttp.ClientResponse) -> PantryError:
    """The engine's error response as one of ours."""
    raw = await upstream.content.read(LONGEST_ENGINE_ERROR)
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
