"""The worker process of the echo engine: an OpenAI-dialect server that answers with the words of the prompt.

Started as `python -m pantry.engines.processes.echo MODEL NAME SOCKET CONTEXT`; runs until its standard input ends.
The model file is a JSON object: `delay` (seconds between words, default 0), `prefill` (seconds before the first word),
`die_after` (words after which the process kills itself), `repeat` (how often the words come), `load` ("fail" or
"hang"), `reply` (fixed text instead of the prompt's), `script` (what to play instead, see script.py), `dimensions` (of
embeddings, default 8; the same text always gets the same vector). One word is one token.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

from pantry.engines.processes.guard import die_with_parent
from pantry.engines.processes.script import deltas_of, last_reason
from pantry.engines.processes.server import WorkerServer, serve


class EchoServer(WorkerServer):
    """Serves one echo model."""

    def __init__(self, model: dict[str, Any], name: str, context: int) -> None:
        super().__init__()
        self.model, self.name, self.context = model, name, context

    def app(self) -> web.Application:
        app = super().app()
        app.router.add_post("/v1/embeddings", self.embeddings)
        return app

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        return await self._answer(request, body, [str(body["messages"][-1]["content"])], chat=True)

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        return await self._answer(request, body, prompts, chat=False)

    async def embeddings(self, request: web.Request) -> web.Response:
        body = await request.json()
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        size = self.model.get("dimensions", 8)
        data = [
            {"object": "embedding", "index": index, "embedding": vector_of(str(text), size)}
            for index, text in enumerate(texts)
        ]
        tokens = sum(len(str(text).split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response({"object": "list", "model": self.name, "data": data, "usage": usage})

    async def _answer(
        self, request: web.Request, body: dict[str, Any], prompts: list[str], *, chat: bool
    ) -> web.StreamResponse:
        tokens = max(len(prompt.split()) for prompt in prompts)
        if tokens > self.context:
            error = {"code": 400, "type": "exceed_context_size_error", "n_prompt_tokens": tokens, "n_ctx": self.context}
            return web.json_response({"error": {**error, "message": "too long"}}, status=400)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        self.active += 1
        try:
            if body.get("return_progress"):
                await self._send(response, self._chunk(0, "", chat) | {"prompt_progress": {"total": tokens}})
            await asyncio.sleep(self.model.get("prefill", 0))
            for index, prompt in enumerate(p for p in prompts for _ in range(body.get("n", 1))):
                await self._write_choice(response, body, index, prompt, chat)
            await response.write(b"data: [DONE]\n\n")
        finally:
            self.active -= 1
        return response

    async def _write_choice(
        self, response: web.StreamResponse, body: dict[str, Any], index: int, prompt: str, chat: bool
    ) -> None:
        if script := self.model.get("script"):
            await self._play(response, body, index, len(prompt.split()), script, chat)
            return
        words = (self.model.get("reply") or prompt).split() * self.model.get("repeat", 1)
        limit = body.get("max_tokens", -1)
        wanted = words if limit < 0 else words[:limit]
        for number, word in enumerate(wanted):
            if number == self.model.get("die_after"):
                os.kill(os.getpid(), signal.SIGKILL)
            await self._send(response, self._chunk(index, word if number == 0 else f" {word}", chat))
            await asyncio.sleep(self.model.get("delay", 0))
        reason = "length" if len(wanted) < len(words) else "stop"
        await self._send(response, self._chunk(index, "", chat, reason))
        await self._send_usage(response, body, index, len(prompt.split()), len(wanted), chat)

    async def _play(
        self,
        response: web.StreamResponse,
        body: dict[str, Any],
        index: int,
        asked: int,
        script: list[dict[str, Any]],
        chat: bool,
    ) -> None:
        count = calls = 0
        for step in script:
            await asyncio.sleep(step.get("wait", 0))
            if "die" in step:
                os.kill(os.getpid(), signal.SIGKILL)
            if "error" in step:
                await self._send(response, {"error": step["error"]})
                return
            for delta in deltas_of(step, calls):
                count += 1
                chunk = self._chunk(index, delta.get("content", ""), chat)
                if chat:
                    chunk["choices"][0]["delta"] = delta
                await self._send(response, chunk)
                await asyncio.sleep(self.model.get("delay", 0))
            calls += "call" in step
        await self._send(response, self._chunk(index, "", chat, last_reason(script)))
        await self._send_usage(response, body, index, asked, count, chat)

    async def _send_usage(
        self, response: web.StreamResponse, body: dict[str, Any], index: int, asked: int, count: int, chat: bool
    ) -> None:
        usage = {"prompt_tokens": asked, "completion_tokens": count, "total_tokens": asked + count}
        if body.get("stream_options", {}).get("include_usage"):
            await self._send(response, self._chunk(index, "", chat) | {"choices": [], "usage": usage})

    def _chunk(self, index: int, text: str, chat: bool, reason: str | None = None) -> dict[str, Any]:
        said: dict[str, Any] = {"delta": {"content": text} if text else {}} if chat else {"text": text}
        kind = "chat.completion.chunk" if chat else "text_completion"
        choice = {"index": index, "finish_reason": reason, **said}
        return {"id": "echo", "object": kind, "created": 0, "model": self.name, "choices": [choice]}

    async def _send(self, response: web.StreamResponse, chunk: dict[str, Any]) -> None:
        await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")


def vector_of(text: str, size: int) -> list[float]:
    """A vector of length 1 that depends on the text alone."""
    bits = hashlib.shake_256(text.encode()).digest(2 * size)
    values = [int.from_bytes(bits[2 * n : 2 * n + 2], "little") / 32768 - 1 for n in range(size)]
    length = math.hypot(*values) or 1.0
    return [value / length for value in values]


def main() -> None:
    die_with_parent()
    os.umask(0o077)
    path, name, socket, context = sys.argv[1:]
    model = json.loads(Path(path).read_text())
    if model.get("load") == "fail":
        sys.exit("load failed: the echo model says so")
    if model.get("load") == "hang":
        sys.stdin.buffer.read()
    asyncio.run(serve(EchoServer(model, name, int(context)).app(), socket))


if __name__ == "__main__":
    main()
