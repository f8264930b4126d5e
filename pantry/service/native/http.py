"""The native API over HTTP: `POST /call`; a streamed call answers with server-sent events of the same reply objects."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator

from aiohttp import web

from pantry.core.errors import PantryError, UsageError, error_classes
from pantry.core.faults import record_fault
from pantry.service.context import CONTEXT
from pantry.service.generation import sse
from pantry.service.http import caller_of, read_json, send
from pantry.service.native.calls import Call, Value, failure, outcome, parse_call, replies
from pantry.service.state import GATEWAY
from pantry.service.surface import Surface

log = logging.getLogger("pantry.service")
routes = web.RouteTableDef()
surface = Surface(routes, failure, needs_key=False)
_STATUS = {kind.code: kind.status for kind in error_classes()}


@routes.post("/call")
async def call(request: web.Request) -> web.StreamResponse:
    """Call a function of the native API: `{"function": NAME, "parameters": {...}}`."""
    try:
        parsed = parse_call(await read_json(request, request.app[GATEWAY].settings))
        if parsed.key is not None:
            raise UsageError("Over HTTP the key is sent as 'Authorization: Bearer <key>'.")
    except PantryError as error:
        return _whole(failure(error), None, error.status)
    try:
        result = outcome(request.app[CONTEXT], caller_of(request), parsed)
    except PantryError as error:
        return _whole(failure(error), parsed, error.status)
    async with contextlib.aclosing(replies(result)) as answers:
        first = await anext(answers)
        if first["status"] != "partial":
            return _whole(first, parsed, _STATUS[first["code"]] if first["status"] == "error" else 200)
        return await _stream(request, parsed, first, answers)


async def _stream(
    request: web.Request, parsed: Call, first: Value, answers: AsyncIterator[Value]
) -> web.StreamResponse:
    settings = request.app[GATEWAY].settings
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    try:
        await send(request, response, sse.encode(_with_id(first, parsed)), settings)
        async for answer in answers:
            await send(request, response, sse.encode(_with_id(answer, parsed)), settings)
    except ConnectionResetError:
        raise
    except Exception as error:  # the status line is gone already, so the fault travels in the stream
        doing = f"answering {parsed.function.name}"
        log.exception("a fault while %s", doing)
        fault = failure(record_fault(request.app[GATEWAY].paths.fault_log, error, doing))
        await send(request, response, sse.encode(_with_id(fault, parsed)), settings)
    await response.write_eof()
    return response


def _whole(reply: Value, parsed: Call | None, status: int) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    if "retry_after" in reply:
        headers["Retry-After"] = str(reply["retry_after"])
    return web.json_response(_with_id(reply, parsed), status=status, headers=headers)


def _with_id(reply: Value, parsed: Call | None) -> Value:
    return {"id": parsed.id, **reply} if parsed is not None and parsed.id is not None else reply
