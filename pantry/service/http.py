"""Parts of HTTP that every surface uses: the body, the caller, the form of an error."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from pantry.core.errors import PantryError, SlowClientError, TooLargeError, UsageError, reply_of_error
from pantry.core.foreign_json import parse_json
from pantry.core.permissions import NOBODY, Caller
from pantry.core.settings import Settings

CALLER = web.RequestKey("caller", Caller)
"""Where the guard leaves, in a request, who calls."""
SMALL_BODY = 65_536  # bytes that are parsed on the spot; longer bodies take long enough to be parsed beside the loop


async def read_json(request: web.Request, settings: Settings) -> Any:
    """The JSON body of a request. Raises TooLargeError, or UsageError when it does not come in time or parse."""
    too_large = TooLargeError(f"The request body is over {settings.max_body} bytes.")
    if (request.content_length or 0) > settings.max_body:
        raise too_large
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise UsageError("A compressed request body is not taken.", hint="Send it without Content-Encoding.")
    try:
        async with asyncio.timeout(settings.body_timeout):
            raw = await request.read()
    except TimeoutError:
        raise SlowClientError(f"The request body did not come within {settings.body_timeout:.0f} seconds.") from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large from None
    if len(raw) <= SMALL_BODY:
        return parse_json(raw, "The request body")
    return await asyncio.to_thread(parse_json, raw, "The request body")


async def send(request: web.Request, response: web.StreamResponse, data: bytes, settings: Settings) -> None:
    """Send to the client; one that does not read for too long is let go, so that it does not hold a slot.

    Raises ConnectionResetError when it is let go.
    """
    try:
        async with asyncio.timeout(settings.write_timeout):
            await response.write(data)
    except TimeoutError:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the client does not read its answer") from None


def caller_of(request: web.Request) -> Caller:
    """Who calls, as the guard found out."""
    caller: Caller = request.get(CALLER, NOBODY)
    return caller


def error_body(error: PantryError) -> dict[str, Any]:
    """The JSON body of an error in OpenAI's form."""
    return {"error": error_object(error)}


def error_object(error: PantryError) -> dict[str, Any]:
    """An error as OpenAI's clients expect it, with what else Pantry's own read from it."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    return reply_of_error(error) | {"type": kind, "param": None}
