"""What the worker processes written in Python share: their routes, and serving until their parent is gone."""

from __future__ import annotations

import asyncio
import os
import sys
from abc import ABC, abstractmethod

from aiohttp import web


class WorkerServer(ABC):
    """Serves one model in OpenAI's dialect; `active` counts the answers being written."""

    def __init__(self) -> None:
        self.active = 0

    def app(self) -> web.Application:
        """The application with the routes that every worker has."""
        app = web.Application(client_max_size=1 << 30)
        app.router.add_get("/health", self.health)
        app.router.add_get("/slots", self.slots)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/completions", self.completions)
        return app

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def slots(self, request: web.Request) -> web.Response:
        return web.json_response([{"id": 0, "is_processing": self.active > 0}])

    @abstractmethod
    async def chat(self, request: web.Request) -> web.StreamResponse:
        """Answer a conversation."""

    @abstractmethod
    async def completions(self, request: web.Request) -> web.StreamResponse:
        """Continue a text."""


async def serve(app: web.Application, socket: str) -> None:
    """Serve on a Unix socket until standard input ends, then end the process."""
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, socket).start()
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.buffer.read)
    os._exit(0)
