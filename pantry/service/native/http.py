"""The native API over HTTP: `POST /call`; a streamed call answers with server-sent events of the same reply objects."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from pantry.core.errors import PantryError, UsageError, error_classes
from pantry.service.generation import sse as _sse
from pantry.service.http import caller_of, read_json
from pantry.service.models import DESK
from pantry.service.native import functions_apps as _functions_apps
from pantry.service.native import functions_jobs as _functions_jobs
from pantry.service.native import functions_models as _functions_models
from pantry.service.native import functions_sessions as _functions_sessions
from pantry.service.native.calls import Call, Value, failure, outcome, parse_call, replies
from pantry.service.state import GATEWAY

routes = web.RouteTableDef()
PATH = "/call"
FUNCTION_FILES = (_functions_apps, _functions_jobs, _functions_models, _functions_sessions)
"""Importing them offers their functions."""
_STATUS = {kind.code: kind.status for kind in error_classes()}


@routes.post(PATH)
async def call(request: web.Request) -> web.StreamResponse:
    """Call a function of the native API: `{"function": NAME, "parameters": {...}}`."""
    try:
        parsed = parse_call(await read_json(request, request.app[GATEWAY].settings))
        if parsed.key is not None:
            raise UsageError("Over HTTP the key is sent as 'Authorization: Bearer <key>'.")
    except PantryError as error:
        return _whole(failure(error), None, error.status)
    try:
        result = outcome(request.app[DESK], caller_of(request), parsed)
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
    gateway = request.app[GATEWAY]
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    await gateway.write(request, response, _sse.encode(_with_id(first, parsed)))
    async for answer in answers:
        await gateway.write(request, response, _sse.encode(_with_id(answer, parsed)))
    await response.write_eof()
    return response


def _whole(reply: Value, parsed: Call | None, status: int) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return web.json_response(_with_id(reply, parsed), status=status, headers=headers)


def _with_id(reply: Value, parsed: Call | None) -> Value:
    return {"id": parsed.id, **reply} if parsed is not None and parsed.id is not None else reply
