"""The owner's page over HTTP: what needs no key, logging in, and who cannot get in."""

import os
import socket
import subprocess
import sys
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import pytest

from pantry.client.tcp_owners import user_at
from pantry.operations.service import page_link
from tests.processes import run_pantry
from tests.service.calling import Line, make_app
from tests.service.running import Service, starting, wait_until

Login = dict[str, str]


def new_code(service: Service) -> str:
    return page_link(service.paths).partition("#")[2]


@pytest.fixture
def login(service: Service) -> Login:
    """The headers that the page of a logged-in browser sends."""
    own = f"http://127.0.0.1:{service.port}"
    headers = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
    body = f'{{"code": "{new_code(service)}"}}'.encode()
    status, got, content = service.ask_raw("POST", "/ui/login", body, key=None, headers=headers)
    assert status == 200, content
    cookie = SimpleCookie(got["Set-Cookie"])[f"pantry-{service.port}"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
    token = content.decode().split('"')[3]
    return {**headers, "Cookie": f"{cookie.key}={cookie.value}", "X-Pantry-Page": token}


def test_front_leads_to_the_page_and_its_files_need_no_key(service: Service) -> None:
    status, headers, _ = service.ask_raw("GET", "/", key=None)
    assert (status, headers["Location"]) == (302, "/ui/")
    status, headers, content = service.ask_raw("GET", "/ui/", key=None)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"pantry page" in content
    for name in ("app.js", "app.css", "icon.svg", "lib/api.js", "views/apps.js"):
        assert service.ask_raw("GET", f"/ui/{name}", key=None)[0] == 200


@pytest.mark.parametrize("name", ["nothing.js", "..%2fguard.py", "%2e%2e/page.py", "__pycache__", "page.py"])
def test_other_names_are_not_served(service: Service, name: str) -> None:
    assert service.ask_raw("GET", f"/ui/{name}", key=None)[0] in (401, 404)
    assert service.ask_raw("GET", f"/ui/{name}")[0] == 404


def test_page_may_load_nothing_from_elsewhere_and_sit_in_no_frame(service: Service) -> None:
    _, headers, _ = service.ask_raw("GET", "/ui/", key=None)
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect")} == {"'self'"}
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")


def test_logged_in_browser_sees_and_answers(service: Service, login: Login) -> None:
    key = make_app(service.paths, "Paged", "request-load")
    with Line(service) as line:
        line.value("unload_llm", {"model": "json"})
        asked = line.value("load_llm", {"model": "json"}, key=key)["request"]
    status, seen = service.ask("GET", "/admin/overview", key=None, headers=login)
    assert status == 200
    mine = next(each for each in seen["requests"] if each["id"] == asked["id"])
    assert mine["description"].startswith("Paged wants to load json (")
    assert next(each for each in seen["apps"] if each["name"] == "Paged")["sessions"] == {"count": 0, "size": 0}
    path = f"/admin/requests/{asked['id']}/refuse"
    assert service.ask("POST", path, {}, key=None, headers=login)[1]["state"] == "refused"
    seen = service.ask("GET", "/admin/overview", key=None, headers=login)[1]
    assert seen["answered"][0]["id"] == asked["id"]


WRONG: list[dict[str, Any]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://127.0.0.1:1"},
    {"Origin": "null"},
    {"Origin": None},
    {"Host": "evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Cookie": None},
    {"Cookie": "pantry-1=x"},
    {"X-Pantry-Page": None},
    {"X-Pantry-Page": "x" * 43},
]


@pytest.mark.parametrize("change", WRONG, ids=str)
def test_other_pages_cannot_use_the_login(service: Service, login: Login, change: dict[str, Any]) -> None:
    assert service.ask("POST", "/admin/unload", {"model": "echo"}, key=None, headers=login)[0] == 200
    headers = {name: value for name, value in {**login, **change}.items() if value is not None}
    assert service.ask("POST", "/admin/unload", {"model": "echo"}, key=None, headers=headers)[0] in (401, 403)


def test_allowed_origin_cannot_use_the_login(home_folder: Any) -> None:
    service = Service(home_folder, {"PANTRY_ALLOWED_ORIGINS": '["https://notes.example"]'})
    with starting(service):
        headers = {"Origin": "https://notes.example"}
        body = f'{{"code": "{new_code(service)}"}}'.encode()
        status, got, content = service.ask_raw("POST", "/ui/login", body, key=None, headers=headers)
        assert status == 200
        headers |= {"Cookie": got["Set-Cookie"].partition(";")[0], "X-Pantry-Page": content.decode().split('"')[3]}
        assert service.ask("GET", "/admin/overview", key=None, headers=headers)[0] == 401


def test_login_opens_the_owners_routes_only(service: Service, login: Login) -> None:
    for path in ("/v1/models", "/metrics"):
        assert service.ask("GET", path, key=None, headers=login)[0] == 401
    assert service.ask("POST", "/call", {"function": "whoami"}, key=None, headers=login)[0] == 401


def test_code_works_once_and_logging_out_ends_the_login(service: Service, login: Login) -> None:
    code = new_code(service)
    assert service.ask("POST", "/ui/login", {"code": code}, key=None)[0] == 200
    status, answer = service.ask("POST", "/ui/login", {"code": code}, key=None)
    assert status == 401
    assert "pantry page" in answer["error"]["message"]
    assert service.ask("POST", "/ui/login", {"code": 5}, key=None)[0] == 400
    assert service.ask("POST", "/ui/logout", {}, key=None, headers=login)[0] == 200
    assert service.ask("GET", "/admin/overview", key=None, headers=login)[0] == 401
    assert service.ask("POST", "/ui/logout", {}, key=None, headers=login)[0] == 401


def test_only_the_owner_gets_a_code(service: Service) -> None:
    assert service.ask("POST", "/admin/page-code", {}, key=None)[0] == 401
    assert service.ask("POST", "/admin/page-code", {}, key=make_app(service.paths, "Plain", "session"))[0] == 403
    assert service.ask("POST", "/admin/page-code", {}, key=make_app(service.paths, "Super", "superuser"))[0] == 403


def test_restart_ends_logins(home_folder: Any) -> None:
    service = Service(home_folder)
    with starting(service):
        code = new_code(service)
    with starting(service):
        assert service.ask("POST", "/ui/login", {"code": code}, key=None)[0] == 401


def test_permissions_limits_and_sessions_are_taken_away(service: Service, login: Login) -> None:
    key = make_app(service.paths, "Trimmed", "session", "load", "view")
    with Line(service) as line:
        line.value("create_session", {"preferred_model": "echo"}, key=key)
    found = service.ask("GET", "/admin/overview", key=None, headers=login)[1]["apps"]
    app = next(each for each in found if each["name"] == "Trimmed")
    assert app["sessions"]["count"] == 1
    path = f"/admin/apps/{app['id']}"

    def post(way: str, body: Any) -> Any:
        return service.ask("POST", f"{path}/{way}", body, key=None, headers=login)

    assert list(post("withdraw", {"permissions": ["load"]})[1]["grants"]) == ["session", "view"]
    assert post("limit", {"tokens_per_day": 7})[1]["tokens_per_day"] == 7
    assert post("limit", {"tokens_per_day": None})[1]["tokens_per_day"] is None
    assert service.ask("DELETE", f"{path}/sessions", key=None, headers=login)[1]["deleted"] == 1
    with Line(service) as line:
        assert line.value("list_sessions", key=key)["sessions"] == []
    for way, body in [
        ("withdraw", {"permissions": "load"}), ("withdraw", {"permissions": ["fly"]}), ("withdraw", []),
        ("limit", {"tokens_per_day": -1}), ("limit", {"tokens_per_day": 1e30}), ("limit", {}), ("limit", None),
    ]:  # fmt: skip
        assert post(way, body)[0] == 400
    assert service.ask("POST", "/admin/apps/nobody/limit", {"tokens_per_day": 1}, key=None, headers=login)[0] == 404


def test_user_of_a_connection_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        served, _ = server.accept()
        with served:
            here = os.getuid() if sys.platform == "linux" else None
            assert user_at(client.getsockname(), server.getsockname()) == here
            assert user_at(("127.0.0.1", 1), server.getsockname()) is None
            assert user_at(("::1", client.getsockname()[1]), server.getsockname()) is None


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs to become another user")
def test_another_user_cannot_use_a_link(service: Service) -> None:
    program = (
        "import os, sys, http.client, json; ''.encode('idna'); os.setuid(65534)\n"
        "asking = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]))\n"
        "asking.request('POST', '/ui/login', json.dumps({'code': sys.argv[2]}))\n"
        "print(asking.getresponse().status)"
    )
    code = new_code(service)
    done = subprocess.run([sys.executable, "-c", program, str(service.port), code], capture_output=True, text=True)
    assert done.stdout == "403\n", done.stderr
    assert service.ask("POST", "/ui/login", {"code": code}, key=None)[0] == 200


def test_command_opens_the_browser_or_prints_the_link(service: Service, tmp_path: Path) -> None:
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    environment = {**service.environment, "BROWSER": str(browser)}
    done = run_pantry("page", env=environment, timeout=30)
    assert done.stdout == "The page is open in your browser.\n", done.stderr
    shown = run_pantry("page", "--link", env=environment, timeout=30).stdout
    for link in (opened.read_text(), shown):
        address, _, code = link.strip().partition("#")
        assert address == f"http://127.0.0.1:{service.port}/ui/"
        assert service.ask("POST", "/ui/login", {"code": code}, key=None)[0] == 200


def test_overview_tells_who_answers_now(service: Service) -> None:
    with Line(service) as line:
        line.send("call_llm", {"preferred_model": "slow", "prompt": "word"})

        def active() -> bool:
            loaded = service.ask("GET", "/admin/overview")[1]["loaded"]
            return any(each["name"] == "slow" and each["active"] for each in loaded)

        wait_until(active)
