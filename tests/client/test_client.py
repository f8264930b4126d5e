"""The client against a real service over the echo engine: as owner, as app, over socket and TCP, sync and async."""

import asyncio
import contextlib
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pantry
from pantry.access.apps import add_app, list_apps, remove_app
from pantry.access.requests import Limits, decide_request, list_requests
from pantry.client import AsyncClient, Client
from pantry.client._unasync import RESULT, SOURCE, synchronous
from pantry.client._wire import Address, addresses, parse_address
from pantry.client.records import Request
from pantry.core.errors import (
    ForbiddenError,
    ModelNotFoundError,
    NotFoundError,
    PantryError,
    ServiceUnavailableError,
    UnauthorisedError,
    UsageError,
)
from pantry.core.paths import Paths, find_paths
from pantry.core.permissions import Grant, Permission
from tests.service.running import Service, free_port, starting, wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("client") / "home")
    service.add_echo("echo")
    service.add_echo("slow", delay=0.05, repeat=100)
    service.add_echo("dies", die_after=1)
    with starting(service):
        yield service


@pytest.fixture
def owner(service: Service) -> Client:
    return Client(paths=service.paths)


def program(service: Service, home: Path, app: str, **more: Any) -> Client:
    """A program of another user's home, over TCP, as an app."""
    return Client(app, address=f"http://127.0.0.1:{service.port}", paths=find_paths({"PANTRY_HOME": str(home)}), **more)


ONCE = Limits()


def answering(service: Service, limits: Limits | None = ONCE) -> Any:
    """An on_wait that answers what is asked, as the user would elsewhere."""

    def on_wait(request: Request) -> None:
        with contextlib.suppress(PantryError):
            decide_request(service.paths, request.id, limits)

    return on_wait


def test_synchronous_client_is_made_from_the_asynchronous_one() -> None:
    assert RESULT.read_text() == synchronous(SOURCE.read_text()), "run: python -m pantry.client._unasync"


def test_importing_the_clients_needs_the_standard_library_only() -> None:
    code = "import sys, pantry; pantry.Client; assert 'asyncio' not in sys.modules; pantry.AsyncClient"
    environment = {**os.environ, "PYTHONPATH": str(Path(pantry.__file__).parent.parent)}
    subprocess.run([sys.executable, "-S", "-c", code], env=environment, check=True)


def test_owner_chats_over_the_socket(owner: Client) -> None:
    reply = owner.chat("one two three", model="echo")
    assert (reply.text, str(reply), reply.model, reply.completion_tokens) == (
        "one two three",
        "one two three",
        "echo",
        3,
    )
    assert owner.handshake().name == "pantry"
    assert owner.whoami().app is None


def test_stream_comes_in_pieces(owner: Client) -> None:
    assert list(owner.stream("one two three", model="echo", max_tokens=2)) == ["one", " two"]


def test_closing_a_stream_stops_the_engine(service: Service, owner: Client) -> None:
    stream = owner.stream("word", model="slow")
    next(stream)
    assert service.worker_is_busy("slow")
    stream.close()
    wait_until(lambda: not service.worker_is_busy("slow"), 2)


def test_messages_and_requirements_are_sent(owner: Client) -> None:
    reply = owner.chat([{"role": "user", "content": "hi there"}], requirements=["CONVERSATIONAL"], model="echo")
    assert reply.text == "hi there"
    assert owner.choose("CONVERSATIONAL", model="echo").model == "echo"
    with pytest.raises(ModelNotFoundError):
        owner.choose("context>=1000000")


def test_models_loads_and_files(owner: Client) -> None:
    owner.load("echo")
    assert next(each for each in owner.models() if each.name == "echo").loaded
    owner.unload("echo")
    assert not next(each for each in owner.models() if each.name == "echo").loaded
    assert owner.bare_model("echo").exists()
    assert owner.request_download("echo") is None


def test_session_is_kept_resumed_and_deleted(owner: Client) -> None:
    session = owner.session(model="echo", system="Be kind.")
    assert session.say("one").text == "one"
    assert list(session.stream("two three")) == ["two", " three"]
    again = owner.resume(session.id)
    assert [each["content"] for each in again.messages()] == ["Be kind.", "one", "one", "two three", "two three"]
    assert session.id in [each.id for each in owner.sessions()]
    again.delete()
    with pytest.raises(NotFoundError):
        owner.resume(session.id)


def test_session_is_interrupted_from_elsewhere(owner: Client) -> None:
    session = owner.session(model="slow")
    words = session.stream("word")
    next(words)
    assert session.interrupt()
    assert len(list(words)) < 90
    assert not session.interrupt()


def test_errors_come_as_their_class(owner: Client) -> None:
    with pytest.raises(ModelNotFoundError, match="Did you mean 'echo'"):
        owner.chat("x", model="ech")
    with pytest.raises(UsageError, match="temperature"):
        owner.chat("x", model="echo", temperature="hot")
    with pytest.raises(UsageError, match="list"):
        owner.chat("x", requirements="CODING")  # type: ignore[arg-type]
    with pytest.raises(PantryError, match="stopped in the middle"):
        list(owner.stream("a b c", model="dies"))


def test_app_registers_waits_for_the_user_and_keeps_its_key(service: Service, tmp_path: Path) -> None:
    Client(paths=service.paths).unload("echo")
    seen: list[str] = []
    answer = answering(service, Limits(always=True))

    def on_wait(request: Request) -> None:
        seen.append(f"{request.kind} {request.state}")
        answer(request)

    client = program(service, tmp_path, "Notes", permissions=["session", "request-load", "view"], on_wait=on_wait)
    assert client.chat("one two", model="echo").text == "one two"
    assert seen[0] == "permission pending"
    assert "permission done" in seen
    assert client.whoami().permissions == {"session", "request-load", "view", "load"}
    file = next((tmp_path / "config" / "apps").iterdir())
    assert file.stat().st_mode & 0o077 == 0
    again = program(service, tmp_path, "Notes", permissions=["session"])
    assert again.whoami().app == client.whoami().app


def test_refusal_is_an_error(service: Service, tmp_path: Path) -> None:
    client = program(service, tmp_path, "Refused", permissions=["session"], on_wait=answering(service, None))
    with pytest.raises(ForbiddenError, match="refused the permissions session"):
        client.chat("x", model="echo")


def test_refused_load_is_an_error(service: Service, tmp_path: Path) -> None:
    Client(paths=service.paths).unload("echo")
    _, key = add_app(service.paths, "Poor", None, [Permission.SESSION, Permission.REQUEST_LOAD], Grant())
    address = f"http://127.0.0.1:{service.port}"
    client = Client(key=key, address=address, on_wait=answering(service, None))
    with pytest.raises(ForbiddenError):
        client.chat("x", model="echo")
    with pytest.raises(ForbiddenError, match="the user refused"):
        client.load("echo")
    assert {each.state for each in client.requests()} == {"refused"}


def test_waiting_ends_at_its_timeout(service: Service, tmp_path: Path) -> None:
    client = program(service, tmp_path, "Patient")
    request = client.request_permissions("session", reason="to write")
    assert client.wait(request, timeout=0.3).state == "pending"
    assert any(each.id == request.id and each.reason == "to write" for each, _ in list_requests(service.paths))


def test_revoked_app_registers_anew(service: Service, tmp_path: Path) -> None:
    first = program(service, tmp_path, "Phoenix").whoami().app
    assert first
    remove_app(service.paths, first)
    assert program(service, tmp_path, "Phoenix").whoami().app != first
    assert len([app for app in list_apps(service.paths) if app.name == "Phoenix"]) == 1


def test_wrong_key_is_unauthorised(service: Service) -> None:
    with pytest.raises(UnauthorisedError):
        Client(key="pk-wrong", address=f"http://127.0.0.1:{service.port}").whoami()


def test_async_client_does_the_same(service: Service, tmp_path: Path) -> None:
    async def talk() -> tuple[str, list[str], list[str]]:
        address = f"http://127.0.0.1:{service.port}"
        paths = find_paths({"PANTRY_HOME": str(tmp_path)})
        wants = ["session", "load"]
        async with AsyncClient(
            "Async", permissions=wants, address=address, paths=paths, on_wait=answering(service)
        ) as client:
            reply = await client.chat("one two", model="echo")
            pieces = [text async for text in client.stream("three four", model="echo")]
            both = await asyncio.gather(client.chat("a", model="echo"), client.chat("b", model="echo"))
            return reply.text, pieces, [each.text for each in both]

    assert asyncio.run(talk()) == ("one two", ["three", " four"], ["a", "b"])


def test_cancelled_async_call_stops_the_engine(service: Service) -> None:
    async def leave() -> None:
        client = AsyncClient(paths=service.paths)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.chat("word", model="slow")

    Client(paths=service.paths).load("slow")
    asyncio.run(leave())
    wait_until(lambda: not service.worker_is_busy("slow"), 2)


class _Stranger(http.server.BaseHTTPRequestHandler):
    """Another program's web server: it answers, but not as Pantry."""

    def do_POST(self) -> None:
        body = json.dumps({"status": "success", "value": {"name": "pantry", "check": 1}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_strangers_on_the_way_up_are_passed_by(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the port of an HTTP server that lies, over one that never answers and one that hangs up, to Pantry."""
    with contextlib.ExitStack() as stack:
        liar = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Stranger))
        threading.Thread(target=liar.serve_forever, daemon=True).start()
        stack.callback(liar.shutdown)
        first = liar.server_address[1]
        silent = stack.enter_context(socket.socket())
        service = Service(tmp_path / "home")
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setattr("pantry.client._client_sync.PROBE_TIMEOUT", 0.2)
        stack.enter_context(starting(service))
        ports = [first, silent.getsockname()[1], 1, service.port]
        monkeypatch.setattr(
            "pantry.client._client_sync.addresses", lambda *_: iter([Address(port=port) for port in ports])
        )
        client = Client(paths=service.paths)
        assert client.handshake().name == "pantry"
        assert client._transport
        assert client._transport.address.port == service.port


def test_looks_at_socket_noted_port_and_sixteen_ports_up(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [each.port for each in addresses(paths, None)] == list(range(7490, 7506))
    paths.run.mkdir(parents=True)
    paths.call_socket.touch()
    info = {"pid": 1, "host": "127.0.0.1", "port": 7500, "socket": "", "version": "", "started_at": 0.0}
    paths.service_file.write_text(json.dumps(info))
    found = list(addresses(paths, None))
    assert (found[0].socket, found[1].port, len(found)) == (str(paths.call_socket), 7500, 17)
    monkeypatch.setenv("PANTRY_URL", "http://127.0.0.1:9")
    assert list(addresses(paths, None)) == [Address(port=9)]


LISTEN = """
import json, os, socket, sys
os.setuid(12345)
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs to become another user")
@pytest.mark.parametrize("noted", [True, False])
def test_ports_where_another_user_listens_get_no_key(
    paths: Paths, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    """Anybody may answer a handshake as Pantry would, on a port where no service of ours is."""
    port = free_port()
    monkeypatch.setattr("pantry.client._wire.DEFAULT_PORT", port)
    if noted:
        info = {"pid": 1, "host": "127.0.0.1", "port": port, "socket": "", "version": "", "started_at": 0.0}
        paths.service_file.parent.mkdir(parents=True, exist_ok=True)
        paths.service_file.write_text(json.dumps(info))
    assert addresses(paths, None).__next__().port == port
    command = [sys.executable, "-c", LISTEN, str(port)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout
            assert other.stdout.readline() == "listening\n"
            assert port not in [each.port for each in addresses(paths, None)]
            given = f"http://127.0.0.1:{port}"
            assert [each.port for each in addresses(paths, given)] == [port]
        finally:
            other.communicate()


def test_socket_in_a_folder_that_others_may_write_to_is_not_used(paths: Paths) -> None:
    paths.run.mkdir(parents=True)
    paths.call_socket.touch()
    paths.run.chmod(0o777)
    with pytest.raises(ForbiddenError, match="others may write"):
        Client(paths=paths).whoami()


@pytest.mark.parametrize("text", ["", "ftp://x", "http://", "http://x:99999999", "http://[", "localhost:7490"])
def test_other_texts_are_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        parse_address(text)


def test_nothing_there_is_said_with_the_next_step(paths: Paths) -> None:
    with pytest.raises(ServiceUnavailableError, match="pantry up"):
        Client(address="http://127.0.0.1:1", paths=paths).handshake()
