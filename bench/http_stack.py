"""What an HTTP stack costs on the token path: `python -m bench.http_stack`.

Method: a paced upstream sends events of the size of one chat token over a Unix socket; a proxy built on each stack
passes them through to a client on loopback. Reported is the proxy's CPU time per event (user and system), which the
machine's other work hardly changes, and the median time to the first event with one stream. docs/adr/0002 rests on it.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench._peers import peer
from bench._report import machine, median, print_table
from bench._streams import Target, stream
from tests.service.running import free_port

LOADS = ((1, 100), (32, 50), (32, 200))
"""Streams at the same time, and events a second in each."""
SECONDS = 4

UPSTREAM = """
import asyncio, json, sys
from aiohttp import web
chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
         "choices": [{"index": 0, "delta": {"content": " token"}, "finish_reason": None}]}
event = b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\\n\\n"
async def answer(request):
    body = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    loop = asyncio.get_running_loop(); start = loop.time()
    for number in range(body["events"]):
        await asyncio.sleep(max(0, start + number / body["rate"] - loop.time()))
        await response.write(event)
    await response.write(b"data: [DONE]\\n\\n")
    return response
app = web.Application(); app.router.add_post("/v1/chat/completions", answer)
web.run_app(app, path=sys.argv[1], print=None)
"""

AIOHTTP_CLIENT = """
import aiohttp, sys, asyncio
session = None
def client():
    global session
    if session is None:
        session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(sys.argv[1], limit=0))
    return session
URL = "http://x/v1/chat/completions"
"""

PROXIES = {
    "aiohttp server and client, uvloop": AIOHTTP_CLIENT
    + """
import uvloop
from aiohttp import web
async def answer(request):
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    async with client().post(URL, data=await request.read()) as upstream:
        await response.prepare(request)
        async for data in upstream.content.iter_any():
            await response.write(data)
    return response
app = web.Application(); app.router.add_post("/v1/chat/completions", answer)
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
web.run_app(app, host="127.0.0.1", port=int(sys.argv[2]), print=None, access_log=None)
""",
    "uvicorn (plain ASGI), aiohttp client": AIOHTTP_CLIENT
    + """
import uvicorn
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive(); body += message.get("body", b"")
        if not message.get("more_body"):
            break
    async with client().post(URL, data=body) as upstream:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        async for data in upstream.content.iter_any():
            await send({"type": "http.response.body", "body": data, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False, lifespan="off")
""",
    "Starlette on uvicorn, aiohttp client": AIOHTTP_CLIENT
    + """
import uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
async def answer(request):
    body = await request.body()
    async def events():
        async with client().post(URL, data=body) as upstream:
            async for data in upstream.content.iter_any():
                yield data
    return StreamingResponse(events(), media_type="text/event-stream")
app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
""",
    "Starlette on uvicorn, httpx client": """
import sys, httpx, uvicorn
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
session = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=sys.argv[1]), timeout=None)
async def answer(request):
    body = await request.body()
    async def events():
        async with session.stream("POST", "http://x/v1/chat/completions", content=body) as upstream:
            async for data in upstream.aiter_raw():
                yield data
    return StreamingResponse(events(), media_type="text/event-stream")
app = Starlette(routes=[Route("/v1/chat/completions", answer, methods=["POST"])])
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", access_log=False)
""",
}


async def load(target: Target, streams: int, rate: int) -> tuple[list[float], int]:
    body = {"events": rate * SECONDS, "rate": rate}
    answers = await asyncio.gather(*(stream(target, "/v1/chat/completions", body) for _ in range(streams)))
    return [first for first, _, _ in answers], sum(tokens for _, _, tokens in answers)


def measure(name: str, socket: Path) -> list[str]:
    port = free_port()
    command = [peer("python"), "-c", PROXIES[name], str(socket), str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as proxy:
        try:
            target = Target(port=port)
            _wait(target)
            row = [name]
            for streams, rate in LOADS:
                before = psutil.Process(proxy.pid).cpu_times()
                _, events = asyncio.run(load(target, streams, rate))
                after = psutil.Process(proxy.pid).cpu_times()
                used = after.user + after.system - before.user - before.system
                row.append(f"{used / events * 1e6:.0f}")
            first = median([asyncio.run(load_once(target)) for _ in range(30)])
            return [*row, f"{first * 1000:.2f}"]
        finally:
            proxy.terminate()


async def load_once(target: Target) -> float:
    return (await stream(target, "/v1/chat/completions", {"events": 1, "rate": 1000}))[0]


def _wait(target: Target) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            asyncio.run(load_once(target))
            return
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "upstream.sock"
        with subprocess.Popen([sys.executable, "-c", UPSTREAM, str(socket)]) as upstream:
            try:
                while not socket.exists():
                    time.sleep(0.05)
                rows = [measure(name, socket) for name in PROXIES]
            finally:
                upstream.terminate()
    columns = ["stack", *(f"{streams} × {rate}/s" for streams, rate in LOADS), "first event, ms"]
    print_table("CPU time per token, µs", columns, rows, f"{machine()}; {SECONDS} s a load.")


if __name__ == "__main__":
    main()
