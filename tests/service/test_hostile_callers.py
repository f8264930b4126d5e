"""Callers that mean harm or are broken: each gets a clear answer, and the service goes on for the others."""

import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pantry.access.apps import REGISTRATIONS, remove_app
from pantry.access.requests import MAX_PENDING, MAX_RUNNING
from pantry.core.paths import Paths
from pantry.store.database import Database
from pantry.store.keys import Keys, hash_key
from tests.service.calling import Line, make_app
from tests.service.running import Service, free_port, starting, wait_until

HANDSHAKE = b'{"function":"handshake","parameters":{"check":1}}\n'


def call(service: Service, function: str, parameters: dict[str, object] | None = None, key: str | None = "owner"):
    return service.ask("POST", "/call", {"function": function, "parameters": parameters or {}}, key=key)


@pytest.mark.parametrize("path", ["/admin/loaded", "/metrics", "/v1/models", "/call"])
def test_key_of_a_removed_app_is_refused_at_once(service: Service, path: str) -> None:
    key = make_app(service.paths, "Gone", "superuser")
    assert service.ask("GET", "/admin/loaded", key=key)[0] == 200
    remove_app(service.paths, "Gone")
    body = {"function": "whoami"} if path == "/call" else None
    assert service.ask("POST" if body else "GET", path, body, key=key)[0] == 401


@pytest.mark.parametrize("permissions", [(), ("session",), ("load", "unload", "view", "session", "bare-model")])
def test_admin_routes_are_for_owner_and_superusers(service: Service, permissions: tuple[str, ...]) -> None:
    key = make_app(service.paths, "Climber", *permissions)
    try:
        assert service.ask("GET", "/admin/loaded", key=key)[0] == 403
        assert service.ask("POST", "/admin/load", {"model": "echo"}, key=key)[0] == 403
        assert service.ask("POST", "/admin/unload", {"model": "echo"}, key=key)[0] == 403
    finally:
        remove_app(service.paths, "Climber")


def test_app_key_on_the_unix_socket_is_that_app_and_no_owner(service: Service) -> None:
    key = make_app(service.paths, "Local", "view")
    ask = f"GET /admin/loaded HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n".encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(service.paths.socket))
        sock.sendall(ask)
        assert sock.recv(100).startswith(b"HTTP/1.0 403")
    remove_app(service.paths, "Local")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(service.paths.socket))
        sock.sendall(ask)
        assert sock.recv(100).startswith(b"HTTP/1.0 401")


def test_connection_stays_with_its_app_after_the_key_is_revoked(service: Service) -> None:
    key = make_app(service.paths, "Sticky", "view")
    with Line(service) as line:
        line.value("list_models", key=key)
        remove_app(service.paths, "Sticky")
        assert line.ask("list_models")["code"] == "unauthorised"


def test_request_of_another_app_is_not_seen(service: Service) -> None:
    mine, other = make_app(service.paths, "Mine", "request-load"), make_app(service.paths, "Theirs")
    request = call(service, "load_llm", {"model": "slow"}, key=mine)[1]["value"]
    if "request" in request:
        assert call(service, "get_request", {"request": request["request"]["id"]}, key=other)[0] == 404
        assert call(service, "wait_request", {"request": request["request"]["id"], "timeout": 0}, key=other)[0] == 404
    assert call(service, "list_requests", key=other)[1]["value"]["requests"] == []


def test_app_cannot_grant_itself_anything(service: Service) -> None:
    key = make_app(service.paths, "Greedy")
    call(service, "request_permissions", {"permissions": ["superuser"]}, key=key)
    call(service, "request_permissions", {"permissions": ["superuser"]}, key=key)
    assert call(service, "whoami", key=key)[1]["value"]["permissions"] == []
    assert len(call(service, "list_requests", key=key)[1]["value"]["requests"]) == 1


def test_choice_never_leads_an_app_beyond_its_grant(service: Service) -> None:
    from pantry.core.permissions import Grant

    key = make_app(service.paths, "Narrow", "session", "load", grant=Grant(("json",)))
    wish = {"fallback_mode": "requirements_load", "model_requirements": ["CONVERSATIONAL"]}
    assert call(service, "call_llm", wish, key=key)[1]["value"]["model"] == "json"
    assert call(service, "call_llm", {"preferred_model": "echo", "prompt": "x"}, key=key)[0] == 404


def test_pending_requests_of_an_app_are_capped(service: Service) -> None:
    key = make_app(service.paths, "Flooder")
    names = ["session", "view", "load", "unload", "download", "bare-model", "request-load", "request-unload"]
    for name in names[:MAX_PENDING]:
        assert call(service, "request_permissions", {"permissions": [name]}, key=key)[0] == 200
    status, answer = call(service, "request_permissions", {"permissions": ["request-download"]}, key=key)
    assert (status, answer["code"]) == (429, "rate_limited")


def test_replayed_registrations_are_rate_limited(home_folder: Path) -> None:
    with starting(Service(home_folder)) as service:
        answers = [call(service, "register_app", {"name": "Same"}, key=None)[0] for _ in range(REGISTRATIONS + 5)]
        assert answers.count(200) == REGISTRATIONS
        assert set(answers[REGISTRATIONS:]) == {429}


def test_gigabyte_line_without_an_end_is_cut_off_and_costs_no_memory(service: Service) -> None:
    before = psutil.Process(service.pid).memory_info().rss
    block, sent = b"x" * 1_000_000, 0
    with Line(service) as line, contextlib.suppress(OSError):
        line.socket.settimeout(5)
        while sent < 1_000_000_000:
            line.send_raw(block)
            sent += len(block)
    assert sent < 50_000_000
    assert psutil.Process(service.pid).memory_info().rss - before < 50_000_000


def test_long_line_is_told_its_limit(home_folder: Path) -> None:
    with starting(Service(home_folder, {"PANTRY_MAX_LINE": "2000"})) as service, Line(service) as line:
        line.send_raw(b"x" * 1990)
        line.send_raw(b"\n")
        assert line.read()["code"] == "invalid_request"
        line.send_raw(b"y" * 5000)
        told = line.read()
        assert (told["code"], "2000 bytes" in told["message"]) == ("too_large", True)


def test_half_a_line_is_let_go_after_the_body_timeout(service: Service) -> None:
    with Line(service) as line:
        line.send_raw(b'{"function":')
        start = time.monotonic()
        assert "did not end" in line.read()["message"]
        assert 1 < time.monotonic() - start < 5
        assert line.file.readline() == b""


def test_half_open_connections_leave_nothing_behind(service: Service) -> None:
    process = psutil.Process(service.pid)
    before = process.num_fds()
    for _ in range(50):
        line = Line(service)
        line.send_raw(HANDSHAKE[:20])
        line.socket.shutdown(socket.SHUT_WR)
        line.__exit__()
        with socket.create_connection(("127.0.0.1", service.port)) as sock:
            sock.sendall(b"POST /call HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
    wait_until(lambda: process.num_fds() <= before + 2)


def test_reader_that_never_reads_holds_its_connection_only(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_WRITE_TIMEOUT": "1"})
    service.add_echo("echo", repeat=200_000, context=100)
    with starting(service):
        lazy = Line(service)
        lazy.send("call_llm", {"preferred_model": "echo", "prompt": "a-long-word-to-fill-buffers", "stream": True})
        wait_until(lambda: service.worker_is_busy("echo"))
        with Line(service) as line:
            assert line.value("handshake", {"check": 5})["check"] == 5
        wait_until(lambda: not service.worker_is_busy("echo"), 10)
        lazy.__exit__()


def test_connections_beyond_the_limit_are_told_so(home_folder: Path) -> None:
    with starting(Service(home_folder, {"PANTRY_MAX_CONNECTIONS": "20"})) as service, contextlib.ExitStack() as stack:
        lines = [stack.enter_context(Line(service)) for _ in range(20)]
        assert lines[-1].value("handshake")["name"] == "pantry"
        told = stack.enter_context(Line(service)).read()
        assert (told["code"], "max_connections" in told["message"]) == ("busy", True)
        lines[0].__exit__()
        wait_until(lambda: _answers(service))
        for _ in range(20):
            stack.enter_context(socket.create_connection(("127.0.0.1", service.port)))
        with socket.create_connection(("127.0.0.1", service.port)) as sock:
            assert sock.recv(100).startswith(b"HTTP/1.1 503")


def _answers(service: Service) -> bool:
    with Line(service) as line:
        line.send("handshake")
        return line.read()["status"] == "success"


@pytest.mark.slow
def test_ten_thousand_connections_do_not_stop_the_service(home_folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 12_000:
        pytest.skip(f"needs 12,000 open files here; the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (12_000, hard))
    try:
        with starting(Service(home_folder)) as service, contextlib.ExitStack() as stack:
            for _ in range(10_000):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.settimeout(10)
                with contextlib.suppress(OSError):
                    sock.connect(str(service.paths.call_socket))
            assert service.ask("GET", "/healthz")[0] == 200
            assert psutil.Process(service.pid).memory_info().rss < 400_000_000
            stack.close()
            wait_until(lambda: _answers(service), 10)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_calls_in_flight_are_busy_and_named(service: Service) -> None:
    with Line(service) as line:
        line.value("load_llm", {"model": "slow"})
        for number in range(70):
            line.send("call_llm", {"preferred_model": "slow", "prompt": "w", "max_tokens": 5}, id=number)
        replies = [line.read() for _ in range(70)]
        busy = {each["id"] for each in replies if each.get("code") == "busy"}
        assert busy >= {64, 65, 66, 67, 68, 69}


def test_call_socket_opened_by_another_user_is_refused(service: Service) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root to become another user; CI runs as root")
    opened = [service.paths.run, *service.paths.run.parents]
    before = {folder: folder.stat().st_mode for folder in opened}
    try:
        for folder in opened:
            folder.chmod(folder.stat().st_mode | 0o055)
        service.paths.call_socket.chmod(0o666)
        code = (
            "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            "s.connect(sys.argv[1]); print(s.makefile().readline())"
        )
        command = [sys.executable, "-c", code, str(service.paths.call_socket)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    finally:
        for folder, mode in before.items():
            folder.chmod(mode)
        service.paths.call_socket.chmod(0o600)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    assert (told["code"], "another user" in told["message"]) == ("forbidden", True)


@pytest.mark.parametrize(
    "headers", [{"Origin": "https://evil.example"}, {"Host": "evil.example"}, {"Host": "127.0.0.1.evil.example"}]
)
def test_pages_and_rebound_names_reach_no_function(service: Service, headers: dict[str, str]) -> None:
    body = {"function": "register_app", "parameters": {"name": "Evil"}}
    for key in ("owner", None):
        status, answer = service.ask("POST", "/call", body, key=key, headers=headers)
        assert (status, answer["status"]) == (403, "error")


def test_no_part_of_a_key_is_ever_compared(paths: Paths) -> None:
    """Keys are found by their hash alone, so how long it takes tells nothing about how much of a guess was right."""
    with Database(paths.database) as database:
        keys, statements = Keys(database), list[str]()
        database._connection.set_trace_callback(statements.append)  # with the values in them
        _, right = keys.create("owner")
        assert keys.find(right)
        assert keys.find(right[:-1] + ("a" if right[-1] != "a" else "b")) is None
        database._connection.set_trace_callback(None)
        everything = "\n".join([*statements, *database._connection.iterdump()])
    assert hash_key(right) in everything
    assert right[3:9] not in everything


def test_log_has_neither_keys_nor_prompts_of_any_surface(home_folder: Path, tmp_path: Path) -> None:
    port = free_port()
    compat = {"PANTRY_COMPAT_2023_PORT": str(port), "PANTRY_COMPAT_2023_SOCKET": str(tmp_path / "old.sock")}
    service = Service(home_folder, {"PANTRY_LOG_LEVEL": "debug", **compat})
    service.add_echo()
    service.add_echo("dies", die_after=1)
    key = make_app(service.paths, "Notes", "session", "load")
    service.start("--compat-2023")
    secret, owner = "my-secret-prompt", service.key
    with Line(service) as line:
        line.value("call_llm", {"preferred_model": "echo", "prompt": secret}, key=key)
        session = line.value("create_session", {"preferred_model": "echo", "system": secret})["session"]
        line.value("call_session", {"session": session, "prompt": secret})
        line.ask("call_llm", {"preferred_model": "dies", "prompt": f"{secret} {secret} {secret}"})
        line.ask("call_llm", {"preferred_model": "echo", "prompt": secret, "temperature": secret})
        line.ask("whoami", key="pk-guessed-key")
        line.send_raw(b'{"function": "my-secret-prompt\n')
        line.read()
    for name in ("echo", "dies"):
        call(service, "call_llm", {"preferred_model": name, "prompt": f"{secret} {secret}"}, key=key)
        page = {"HTTP-Referer": "https://notes.example", "X-API-KEY": owner}
        service.ask("POST", "/completions", {"model": name, "prompt": secret}, key=None, headers=page)
        service.ask("POST", "/v1/completions", {"model": name, "prompt": f"{secret} {secret}", "stream": True})
    old = replace(service, port=port)
    told = old.ask("POST", "/register_user", {"user_name": "Old"}, key=None)[1]
    who = {"user_id": told["id"], "api_key": told["api_key"]}
    assert old.ask("POST", "/get_running_llms", who, key=None)[0] == 401
    assert old.ask("POST", "/prompt_session_stream", who | {"prompt": secret}, key=None)[0] == 401
    code = service.ask("POST", "/admin/page-code", {})[1]["code"]
    assert service.ask("POST", "/ui/login", {"code": code}, key=None)[0] == 200
    service.ask("POST", "/ui/login", {"code": "guessed-code"}, key=None)
    output = service.stop()
    assert "Traceback" not in output
    output += "".join(file.read_text() for file in service.paths.logs.iterdir())
    for text in (secret, "pk-guessed-key", "guessed-code", code, key, owner, told["api_key"]):
        assert text not in output


def test_downloads_that_stall_hold_up_neither_answers_nor_the_end_of_the_service(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_URL_DOWNLOADS": "true"})
    service.add_echo()
    key = make_app(service.paths, "Greedy", "download", "session", "load")
    with socket.create_server(("127.0.0.1", 0)) as silent, starting(service):  # takes connections, never answers
        with Line(service) as line:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            for number in range(MAX_RUNNING):
                wanted = {"model": f"m{number}", "url": f"{address}/m{number}.gguf"}
                assert line.value("download_model", wanted, key=key)["state"] == "downloading"
            told = line.ask("download_model", {"model": "more", "url": f"{address}/more.gguf"})
            assert (told["code"], "being done" in told["message"]) == ("rate_limited", True)
            silent.settimeout(10)
            silent.accept()[0].close()
            assert line.value("call_llm", {"preferred_model": "echo", "prompt": "one two"})["text"] == "one two"
        began = time.monotonic()
        service.stop()
        assert time.monotonic() - began < 8


def test_many_threads_of_garbage_do_not_disturb_a_good_caller(service: Service) -> None:
    stop = threading.Event()

    def garbage() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError, AssertionError), Line(service) as line:
                line.send_raw(b"\x00\xff{[" * 100 + b"\n")
                line.read()

    threads = [threading.Thread(target=garbage, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    try:
        with Line(service) as line:
            for number in range(50):
                assert line.value("handshake", {"check": number})["check"] == number
    finally:
        stop.set()
        for thread in threads:
            thread.join()
