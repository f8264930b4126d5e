"""Models at a provider; the provider is a second Pantry service on loopback, or a server that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from pantry.core.errors import BadFileError, EngineError, UsageError
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines.adapter import ENGINES, LoadOptions, ModelFiles
from pantry.engines.provider import Provider, read_provider
from pantry.engines.worker import Worker
from pantry.formats.parts import PlacedPart
from pantry.service.generation import sse
from tests.processes import run_pantry
from tests.service.calling import Line, make_app
from tests.service.running import Service, starting, wait_until

OPTIONS = LoadOptions(context=512, parallel=2, threads=1, prompt_cache=0)
KEY = "REMOTE_TEST_KEY"


@pytest.fixture(scope="module")
def provider_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("provider") / "home")
    service.add_echo("echo", context=50)
    service.add_echo("slow", delay=0.01, repeat=1000)
    service.add_echo("dies", die_after=2)
    with starting(service):
        yield service


def url_of(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}/v1"


@contextlib.asynccontextmanager
async def running(folder: Path, url: str, model: str, key: str = "") -> AsyncIterator[Worker]:
    file, socket = folder / "model.remote", folder / "worker.sock"
    file.write_bytes(Provider(url, model, key).to_json())
    adapter = ENGINES.get("remote")
    assert adapter.why_not_here(Settings()) is None
    command = adapter.command(
        ModelFiles(ModelName("far"), "remote", (PlacedPart("far", "weights", file),)), OPTIONS, socket, Settings()
    )
    worker = await Worker.start("far", command, socket, folder / "worker.log", 60)
    try:
        yield worker
    finally:
        await worker.stop()


async def answer(worker: Worker, path: str, body: dict[str, Any]) -> tuple[int, str]:
    given = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True, **body}
    response = await worker.post(path, given)
    return response.status, await response.text()


def ask(folder: Path, url: str, model: str, key: str = "", **body: Any) -> tuple[int, str]:
    """One completion through a worker of its own."""

    async def once() -> tuple[int, str]:
        async with running(folder, url, model, key) as worker:
            return await answer(worker, "/v1/completions", {"prompt": "a b c", **body})

    return asyncio.run(once())


def test_engine_keeps_the_contract(provider_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, provider_service.key)

    async def contract() -> None:
        async with running(tmp_path, url_of(provider_service), "echo", f"env:{KEY}") as worker:
            messages = [{"role": "user", "content": "Hello there"}]
            status, text = await answer(worker, "/v1/chat/completions", {"messages": messages, "max_tokens": 4})
            assert status == 200, text
            lines = [line for line in text.splitlines() if line]
            assert lines[-1] == "data: [DONE]"
            events = [json.loads(line[6:]) for line in lines[:-1]]
            said = "".join((c["delta"].get("content") or "") for e in events for c in e["choices"])
            assert said == "Hello there"
            assert {event["model"] for event in events} == {"far"}
            assert events[-1]["usage"]["completion_tokens"] == 2
            status, text = await answer(worker, "/v1/completions", {"prompt": "word " * 60})
            assert status == 400
            assert "127.0.0.1 says" in text
            assert "50" in text

    asyncio.run(contract())


def test_leaving_stops_the_engine_at_the_provider(
    provider_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, provider_service.key)

    async def leave() -> float:
        async with running(tmp_path, url_of(provider_service), "slow", f"env:{KEY}") as worker:
            response = await worker.post("/v1/completions", {"prompt": "word", "stream": True})
            await response.content.readany()
            response.close()
            start = time.monotonic()
            await asyncio.to_thread(wait_until, lambda: not provider_service.worker_is_busy("slow"))
            return time.monotonic() - start

    assert asyncio.run(leave()) < 2


def test_missing_key_is_told_at_the_load(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=f"variable {KEY} .* not set"):
        ask(tmp_path, "https://api.example/v1", "m", f"env:{KEY}")


def test_wrong_key_and_unreachable_provider_are_told(
    provider_service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "wrong")
    status, text = ask(tmp_path, url_of(provider_service), "echo", f"env:{KEY}")
    assert status == 502
    assert "refuses the key" in text
    status, text = ask(tmp_path, "http://127.0.0.1:1/v1", "echo")
    assert status == 502
    assert "cannot be reached" in text


SAID = b'data: {"choices": [{"index": 0, "text": "a"}]}\n\ndata: [DONE]\n\n'
WAYS = {
    "rubbish": b"data: {not json}\n\n",
    "deep": b'data: {"a": ' + b"[" * 100_000 + b"\n\n",
    "endless": b"data: " + b"x" * 30_000_000,
    "plain": SAID,
    "windows": SAID.replace(b"\n", b"\r\n"),
    "no space": SAID.replace(b"data: ", b"data:"),
    "named events": SAID.replace(b"data: ", b"event: message\nid: 7\ndata: "),
    "comments": b": hello\n\n" + SAID.replace(b"data: ", b":\ndata: "),
}
"""What a provider sends."""


class _Hostile(http.server.BaseHTTPRequestHandler):
    """Redirects to itself, or sends one of WAYS; notes which requests came with a key."""

    seen: list[tuple[str, str | None]] = []  # noqa: RUF012 - shared by the test on purpose
    way = ""

    def do_POST(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.way == "redirect":
            self.send_response(307)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/elsewhere")  # type: ignore[attr-defined]
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(WAYS[self.way])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hostile() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hostile)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    _Hostile.seen.clear()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


def test_key_follows_no_redirect(hostile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "secret")
    _Hostile.way = "redirect"
    status, _ = ask(tmp_path, hostile, "m", f"env:{KEY}")
    assert status == 502
    assert _Hostile.seen == [("/v1/completions", "Bearer secret")]


@pytest.mark.parametrize("way", ["plain", "windows", "no space", "named events", "comments"])
def test_every_way_to_write_events_is_read(hostile: str, tmp_path: Path, way: str) -> None:
    _Hostile.way = way
    status, text = ask(tmp_path, hostile, "m")
    assert status == 200
    said = [event for event in text.split("\n\n") if not event.startswith(":")]
    assert said == ['data: {"choices": [{"index": 0, "text": "a"}], "model": "far"}', "data: [DONE]", ""]


@pytest.mark.parametrize("way", ["rubbish", "deep", "endless"])
def test_wrong_answer_breaks_off_and_the_next_is_taken(hostile: str, tmp_path: Path, way: str) -> None:
    _Hostile.way = way

    async def twice() -> None:
        async with running(tmp_path, hostile, "m") as worker:
            for _ in range(2):
                response = await worker.post("/v1/completions", {"prompt": "a", "stream": True})
                answer = await response.text()
                assert "[DONE]" not in answer
                told = sse.parse(sse.events(answer.encode())[-1])
                assert "broke off" in told["error"]["message"]
            assert worker.alive
            assert worker.memory() < 200_000_000

    asyncio.run(twice())


@pytest.mark.parametrize(
    ("url", "model", "key"),
    [
        ("http://api.example/v1", "m", ""), ("https://u:p@api.example/v1", "m", ""), ("ftp://x/v1", "m", ""),
        ("https://api.example/v1?key=1", "m", ""), ("https:///v1", "m", ""), ("https://[x/v1", "m", ""), ("", "m", ""),
        ("https://api.example/v1", "", ""), ("https://api.example/v1", "a\nb", ""),
        ("https://api.example/v1", "m", "sk-123"), ("https://api.example/v1", "m", "env:a b"),
        ("https://api.example/v1", "m", "keyring:"),
    ],
)  # fmt: skip
def test_descriptions_that_cannot_be_are_refused(tmp_path: Path, url: str, model: str, key: str) -> None:
    with pytest.raises(UsageError):
        Provider(url, model, key)
    file = tmp_path / "x.remote"
    file.write_text(json.dumps({"url": url, "model": model, "key": key}))
    with pytest.raises(BadFileError):
        read_provider(file)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b'{"url": 1}', b"\xff", b'{"url":"https://a/v1","model":"m","x":1}']
)
def test_files_that_are_no_description_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.remote"
    file.write_bytes(content)
    with pytest.raises(BadFileError):
        read_provider(file)


def pantry(service: Service, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run_pantry(*words, env=service.environment, stdin=stdin)


@pytest.mark.slow
def test_remote_model_beside_local_ones(provider_service: Service, tmp_path: Path) -> None:
    service = Service(tmp_path / "near", {KEY: provider_service.key})
    with starting(service):
        added = pantry(service, "remote", "add", "far", url_of(provider_service), "echo", "--key-env", KEY)
        assert added.returncode == 0, added.stderr
        assert "leaves this machine" in added.stdout
        key = make_app(service.paths, "Remote", "session", "load", "unload", "download")
        with Line(service) as line:
            assert line.value("load_llm", {"model": "far"}, key=key)["state"] == "loaded"
            assert line.value("unload_llm", {"model": "far"})["state"] == "unloaded"
            assert line.value("download_model", {"model": "far"})["state"] == "installed"
            assert service.workers() == [], "nothing was loaded for that"
            owner = service.ask("POST", "/call", {"function": "bare_model", "parameters": {"model": "far"}})
            assert "runs at a provider" in owner[1]["message"]
        only = make_app(service.paths, "Only", "session")
        body = {"model": "far", "messages": [{"role": "user", "content": "one two"}]}
        status, answer = service.ask("POST", "/v1/chat/completions", body, key=only)
        assert (status, answer["model"]) == (200, "far")
        assert answer["choices"][0]["message"]["content"] == "one two"
        assert answer["usage"]["completion_tokens"] == 2
        assert provider_service.key not in json.dumps(service.ask("GET", "/admin/loaded")[1])
        stored = b"".join(file.read_bytes() for file in service.paths.data.rglob("*") if file.is_file())
        assert provider_service.key.encode() not in stored
        assert pantry(service, "policy", "set", "remote=false").returncode == 0
        status, answer = service.ask("POST", "/v1/chat/completions", body)
        assert status == 403, answer
        assert service.workers() == [], "what was loaded answers no more, and is unloaded"
        refused = pantry(service, "remote", "add", "other", url_of(provider_service), "echo")
        assert refused.returncode != 0
        assert "policy allows no models at a provider" in refused.stderr


@pytest.mark.slow
def test_key_in_the_keyring(provider_service: Service, tmp_path: Path) -> None:
    (tmp_path / "filering.py").write_text(
        "import json, pathlib\n"
        "from keyring.backend import KeyringBackend\n"
        f"FILE = pathlib.Path({str(tmp_path / 'ring.json')!r})\n"
        "class Ring(KeyringBackend):\n"
        "    priority = 1\n"
        "    def get_password(self, service, username):\n"
        "        return json.loads(FILE.read_text()).get(service + '/' + username) if FILE.exists() else None\n"
        "    def set_password(self, service, username, password):\n"
        "        FILE.write_text(json.dumps({service + '/' + username: password}))\n"
    )
    ring = {"PYTHON_KEYRING_BACKEND": "filering.Ring", "PYTHONPATH": str(tmp_path)}
    service = Service(tmp_path / "near", ring)
    with starting(service):
        words = ("remote", "add", "far", url_of(provider_service), "echo", "--key")
        added = pantry(service, *words, stdin=f"{provider_service.key}\n")
        assert added.returncode == 0, added.stderr
        assert list(json.loads((tmp_path / "ring.json").read_text())) == ["pantry-providers/far"]
        body = {"model": "far", "prompt": "a b"}
        assert service.ask("POST", "/v1/completions", body)[1]["choices"][0]["text"] == "a b"
