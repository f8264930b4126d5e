"""Who may call: keys, Host, Origin, sockets, addresses."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pantry.core.errors import ForbiddenError
from pantry.core.settings import Settings
from pantry.service.guard import check_host, check_origin, hostname
from tests.processes import run_pantry
from tests.service.running import Service, starting


def test_tcp_without_a_key_is_401(service: Service) -> None:
    status, headers, content = service.ask_raw("GET", "/v1/models", key=None)
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
    assert b"pantry env" in content


@pytest.mark.parametrize("path", ["/metrics", "/admin/loaded", "/v1/models", "/nowhere"])
def test_wrong_key_is_401_everywhere(service: Service, path: str) -> None:
    assert service.ask("GET", path, key="pk-wrong")[0] == 401


def test_health_needs_no_key(service: Service) -> None:
    assert service.ask("GET", "/healthz", key=None)[0] == 200
    assert service.ask("GET", "/readyz", key=None) == (200, {"status": "ready"})


def test_metrics_are_prometheus_text(service: Service) -> None:
    service.ask("POST", "/v1/completions", {"model": "echo", "prompt": "a b c"})
    status, headers, content = service.ask_raw("GET", "/metrics")
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    assert b'pantry_completion_tokens_total{model="echo"}' in content
    assert b'pantry_requests_total{route="/v1/completions",status="200"}' in content


@pytest.mark.parametrize("host", ["evil.example", "evil.example:7490", "localhost.evil.example", "10.9.8.7", ""])
def test_foreign_host_is_403_even_with_the_key(service: Service, host: str) -> None:
    status, answer = service.ask("GET", "/v1/models", headers={"Host": host})
    assert (status, answer["error"]["code"]) == (403, "forbidden")


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1", "https://127.0.0.1"])
def test_foreign_origin_is_403_even_with_the_key(service: Service, origin: str) -> None:
    assert service.ask("GET", "/v1/models", headers={"Origin": origin})[0] == 403


def test_preflight_from_a_foreign_origin_is_403(service: Service) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    assert service.ask("OPTIONS", "/v1/models", headers=headers, key=None)[0] == 403


def test_allowed_origin_may_call_and_gets_cors_headers(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_ALLOWED_ORIGINS": '["https://notes.example"]'})
    with starting(service):
        ask = {"Origin": "https://notes.example", "Access-Control-Request-Method": "POST"}
        status, headers, _ = service.ask_raw("OPTIONS", "/v1/models", headers=ask, key=None)
        assert (status, headers["Access-Control-Allow-Origin"]) == (204, "https://notes.example")
        status, headers, _ = service.ask_raw("GET", "/v1/models", headers={"Origin": "https://notes.example"})
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, "https://notes.example")


@pytest.mark.parametrize(
    ("header", "name"),
    [("localhost:7490", "localhost"), ("[::1]:80", "::1"), ("LOCALHOST", "localhost"), ("[::1", ""), (None, "")],
)
def test_hostname_of_a_host_header(header: str | None, name: str) -> None:
    assert hostname(header) == name


def test_address_listened_on_is_a_good_host_and_names_are_not() -> None:
    settings = Settings(host="0.0.0.0", allowed_hosts=("models.lab.example",))
    check_host("192.168.1.5:7490", settings, "192.168.1.5")
    check_host("models.lab.example", settings, "192.168.1.5")
    for host in ("192.168.1.6", "other.lab.example"):
        with pytest.raises(ForbiddenError):
            check_host(host, settings, "192.168.1.5")


def test_own_pages_may_call() -> None:
    check_origin("http://127.0.0.1:7490", "127.0.0.1:7490", Settings())
    check_origin(None, "127.0.0.1:7490", Settings())


def test_bind_beyond_loopback_without_keys_is_refused(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_REQUIRE_KEY": "false"})
    done = run_pantry("up", "--host", "0.0.0.0", env=service.environment, timeout=30)
    assert done.returncode == 2
    assert "require_key" in done.stderr


def test_loopback_without_keys_works_when_chosen(home_folder: Path) -> None:
    with starting(Service(home_folder, {"PANTRY_REQUIRE_KEY": "false"})) as service:
        assert service.ask("GET", "/v1/models", key=None)[0] == 200


def test_key_and_sockets_are_closed_to_other_users(service: Service) -> None:
    assert service.paths.key_file.stat().st_mode & 0o077 == 0
    assert service.paths.database.stat().st_mode & 0o077 == 0
    assert service.paths.run.stat().st_mode & 0o077 == 0
    assert service.paths.socket.stat().st_mode & 0o077 == 0


def test_key_is_stored_only_as_a_hash(service: Service) -> None:
    stored = b"".join(file.read_bytes() for file in service.paths.database.parent.glob("pantry.db*"))
    assert service.key.encode() not in stored


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user; CI runs as root")
def test_socket_opened_by_another_user_is_refused(service: Service, tmp_path: Path) -> None:
    opened = [service.paths.run, *service.paths.run.parents]
    before = {folder: folder.stat().st_mode for folder in opened}
    try:
        for folder in opened:
            folder.chmod(folder.stat().st_mode | 0o055)
        service.paths.socket.chmod(0o666)
        code = (
            "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
            "s.connect(sys.argv[1]); s.sendall(b'GET /v1/models HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n');"
            "print(s.recv(4000).decode())"
        )
        command = [sys.executable, "-c", code, str(service.paths.socket)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    finally:
        for folder, mode in before.items():
            folder.chmod(mode)
        service.paths.socket.chmod(0o600)
    assert "403" in done.stdout.splitlines()[0], done
    assert "another user" in done.stdout


def test_owner_needs_no_key_on_the_socket(service: Service) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(service.paths.socket))
        sock.sendall(b"GET /v1/models HTTP/1.0\r\nHost: anything\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.0 200")


def test_log_has_neither_keys_nor_prompts(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_LOG_LEVEL": "debug"})
    service.add_echo()
    service.start()
    body = {"model": "echo", "prompt": "my-secret-prompt", "max_tokens": 2}
    assert service.ask("POST", "/v1/completions", body)[0] == 200
    service.ask("GET", "/v1/models", key="pk-guessed-key")
    key = service.key
    output = service.stop()
    for told in ("INFO listening on 127.0.0.1", "INFO stopped"):  # this is the log, from the start to the end
        assert told in output
    for secret in ("my-secret-prompt", "pk-guessed-key", key):
        assert secret not in output
