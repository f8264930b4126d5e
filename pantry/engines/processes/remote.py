"""The worker process of a model at a provider: passes calls on, with the key, and the answers back.

Started as `python -m pantry.engines.processes.remote DESCRIPTION NAME SOCKET`; runs until its standard input ends. The
key is sent to the address of the description and nowhere else: redirects are not followed.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pantry.core.errors import PantryError
from pantry.engines.processes.guard import die_with_parent
from pantry.engines.processes.server import WorkerServer, serve
from pantry.engines.provider import Provider, read_provider

OWN_FIELDS = frozenset({"return_progress", "json_schema", "chat_template_kwargs"})
"""What Pantry adds for its own engines; providers refuse fields they do not know."""
CONNECT = 15  # seconds to reach the provider
SILENCE = 170  # seconds without a byte after which the provider counts as gone; below the service's own limit
MAX_LINE = 1_000_000  # bytes of one event
MAX_ERROR = 100_000  # bytes of an error that are read
_DATA = b"data: "


class RemoteServer(WorkerServer):
    """Serves one model at a provider."""

    def __init__(self, provider: Provider, name: str, key: str | None, session: aiohttp.ClientSession) -> None:
        super().__init__()
        self.provider, self.name, self.key, self.session = provider, name, key, session

    async def chat(self, request: web.Request) -> web.StreamResponse:
        return await self._forward(request)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        return await self._forward(request)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        sent = {name: value for name, value in body.items() if name not in OWN_FIELDS} | {"model": self.provider.model}
        url = self.provider.url.rstrip("/") + request.path.removeprefix("/v1")
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        self.active += 1
        try:
            async with self.session.post(url, json=sent, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    return await self._refused(answer)
                return await self._stream(request, answer)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or "it did not answer in time"
            return _error(502, f"{self.provider.host} cannot be reached: {reason[:300]}")
        finally:
            self.active -= 1

    async def _stream(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        """Pass the events on under this machine's name; a stream that breaks off ends with an event that says so."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            async for line in answer.content:
                if event := self._event(line):
                    await response.write(event)
        except ConnectionResetError:
            raise  # the service left; there is nobody to tell
        except (aiohttp.ClientError, LineTooLong, TimeoutError, ValueError, RecursionError) as error:
            told = {"error": {"message": f"{self.provider.host} broke off: {str(error)[:300]}"}}
            await response.write(_DATA + json.dumps(told).encode() + b"\n\n")
        return response

    def _event(self, line: bytes) -> bytes:
        """A line of the provider's stream as an event of the form that the service reads; empty for what says nothing.

        Providers write their events with and without a space, with line ends of Windows, with names beside the data.
        Raises ValueError for data that are not JSON.
        """
        if line.startswith(b":"):
            return b":\n\n"  # a sign of life
        name, _, said = line.partition(b":")
        if name != b"data":
            return b""
        said = said.strip()
        if said.startswith(b"{"):
            said = json.dumps({**json.loads(said), "model": self.name}).encode()
        return _DATA + said + b"\n\n"

    async def _refused(self, answer: aiohttp.ClientResponse) -> web.Response:
        """The provider's error as one of an engine; its words are kept where they are about the request."""
        raw, host = await answer.content.read(MAX_ERROR), self.provider.host
        try:
            told: Any = json.loads(raw)["error"]
            message = str(told["message"] if isinstance(told, dict) else told)[:1000]
        except (ValueError, KeyError, TypeError):
            message = f"status {answer.status}"
        if answer.status in (401, 403):
            return _error(502, f"{host} refuses the key or the model: {message}")
        if answer.status == 429:
            return _error(503, f"{host} takes no more requests now: {message}")
        if 400 <= answer.status < 500:
            return _error(answer.status, f"{host} says: {message}")
        return _error(502, f"{host} failed: {message}")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "provider_error"}}, status=status)


async def run(provider: Provider, name: str, key: str | None, socket: str) -> None:
    """Pass calls on until standard input ends."""
    session = aiohttp.ClientSession(
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT, sock_read=SILENCE),
        read_bufsize=MAX_LINE,
        trust_env=provider.url.startswith("https://"),  # a proxy must not see a key that travels in the clear
        cookie_jar=aiohttp.DummyCookieJar(),
    )
    await serve(RemoteServer(provider, name, key, session).app(), socket)


def main() -> None:
    die_with_parent()
    os.umask(0o077)
    path, name, socket = sys.argv[1:]
    try:
        provider = read_provider(Path(path))
        key = provider.find_key()
    except PantryError as error:
        sys.exit(f"load failed: {error}")
    asyncio.run(run(provider, name, key, socket))


if __name__ == "__main__":
    main()
