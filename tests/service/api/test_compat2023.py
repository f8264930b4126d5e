"""The 2023 app API, with a small client that sends exactly the bodies of that release's client library."""

import json
import os
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pantry.access.requests import Limits, decide_request
from tests.processes import run_pantry
from tests.repository.flatpacks import gguf, make_flatpack, trust_signer
from tests.repository.servers import Faults, serving
from tests.service.running import Service, events, free_port, running_service, starting, wait_until

ENTRY = {
    "id": "qwen3-0.6b", "familyId": "qwen", "organization": "", "name": "Qwen3", "license": "", "description": "",
    "homepage": "", "capabilities": {}, "tags": [], "requirements": "", "backendUuid": "", "url": "", "config": {},
    "local": True, "connectorType": "llmrs", "parameters": {}, "userParameters": [], "sessionParameters": {},
    "userSessionParameters": [],
}  # fmt: skip
LLM_STATUS = {
    "id", "family_id", "organization", "name", "homepage", "license", "description", "capabilities", "requirements",
    "tags", "url", "local", "connector_type", "download_progress", "config", "parameters", "user_parameters",
    "session_parameters", "user_session_parameters", "uuid", "running",
}  # fmt: skip
NOTHING = "00000000-0000-4000-8000-000000000000"


class OldClient:
    """The calls of the 2023 library: over the Unix socket, or over TCP."""

    def __init__(self, service: Service, socket_path: Path, port: int) -> None:
        self.service, self.socket_path, self.port = service, socket_path, port
        self.user_id = self.api_key = ""

    def raw(self, name: str, body: Any, *, tcp: bool = False, **headers: str) -> tuple[int, bytes]:
        connection = HTTPConnection("localhost", self.port, timeout=20)
        if not tcp:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(20)
            connection.sock.connect(str(self.socket_path))
        try:
            data = json.dumps(body).encode()
            connection.request("POST", f"/{name}", data, {"Content-Type": "application/json", **headers})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def call(self, name: str, *, tcp: bool = False, **fields: Any) -> Any:
        status, content = self.raw(name, {"user_id": self.user_id, "api_key": self.api_key, **fields}, tcp=tcp)
        assert status == 200, (status, content)
        return json.loads(content)

    def refused(self, name: str, **fields: Any) -> tuple[int, str]:
        status, content = self.raw(name, {"user_id": self.user_id, "api_key": self.api_key, **fields})
        assert status != 200, content
        return status, content.decode()

    def register(self, name: str) -> dict[str, Any]:
        status, content = self.raw("register_user", {"user_name": name})
        assert status == 200, content
        info = json.loads(content)
        self.user_id, self.api_key = info["id"], info["api_key"]
        return info

    def gain(self, *permissions: str, limits: Limits | None = None) -> None:
        """Ask for permissions, and approve as the user."""
        names = ["superuser", "load_llm", "unload_llm", "download_llm", "session", "request_download", "request_load",
                 "request_unload", "view_llms", "bare_model"]  # fmt: skip
        wanted = {f"perm_{name}": name in permissions for name in names}
        request = self.call("request_permissions", requested_permissions=wanted)
        decide_request(self.service.paths, request["id"], limits or Limits())
        assert self.call("get_request_status", request_id=request["id"])["complete"]


@pytest.fixture(scope="module")
def old_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Path, int]]:
    folder = tmp_path_factory.mktemp("old")
    path, port = folder / "pantrylocal.sock", free_port()
    settings = {"PANTRY_COMPAT_2023_SOCKET": str(path), "PANTRY_COMPAT_2023_PORT": str(port)}
    service = Service(folder / "home", settings)
    service.add_echo("echo")
    service.add_echo("slow", delay=0.05, repeat=100)
    service.add_echo("other")
    with starting(service, "--compat-2023"):
        yield service, path, port


@pytest.fixture
def client(old_service: tuple[Service, Path, int], request: pytest.FixtureRequest) -> OldClient:
    client = OldClient(*old_service)
    with_key(client, request.node.name[:80])
    return client


def with_key(client: OldClient, name: str) -> None:
    """Register; tests make more apps than a minute allows, so the owner adds them beyond the first."""
    from pantry.access.apps import add_app
    from pantry.core.permissions import Grant

    app, client.api_key = add_app(client.service.paths, name, None, [], Grant())
    client.user_id = app.id


def test_whole_way_of_a_client(old_service: tuple[Service, Path, int]) -> None:
    client = OldClient(*old_service)
    info = client.register("Writer")
    assert info["name"] == "Writer"
    assert {value for key, value in info.items() if key.startswith("perm_")} == {False}
    assert len(info) == 13
    request = client.call(
        "request_permissions",
        requested_permissions={"perm_session": True, "perm_load_llm": True, "perm_view_llms": True},
    )
    assert set(request) == {"id", "user_id", "reason", "timestamp", "originator", "request", "complete", "accepted"}
    assert request["request"]["type"] == "PermissionRequest"
    assert request["request"]["requested_permissions"]["perm_session"] is True
    assert (request["complete"], request["accepted"]) == (False, False)
    decide_request(client.service.paths, request["id"], Limits())
    status = client.call("get_request_status", request_id=request["id"])
    assert (status["complete"], status["accepted"]) == (True, True)
    assert set(status) == set(request) - {"reason", "originator"}
    running = client.call("load_llm", llm_id="echo")
    assert set(running) == {"llm_info", "uuid"}
    assert set(running["llm_info"]) == LLM_STATUS
    assert running["llm_info"]["running"] is True
    made = client.call("create_session_id", llm_id="echo", user_session_parameters={"temperature": 0.5})
    assert set(made) == {"session_parameters", "llm_status", "session_id"}
    status_code, content = client.raw(
        "prompt_session_stream",
        {"user_id": client.user_id, "api_key": client.api_key, "session_id": made["session_id"],
         "llm_uuid": running["uuid"], "prompt": "one two three", "parameters": {"top_k": 40, "bias_tokens": ""}},
    )  # fmt: skip
    assert status_code == 200
    told = events(content)
    assert set(told[0]) == {
        "stream_id", "timestamp", "call_timestamp", "parameters", "input", "llm_uuid", "session", "event",
    }  # fmt: skip
    assert set(told[0]["session"]) == {"id", "llm_uuid", "user_id", "started", "last_called", "session_parameters"}
    assert [each["event"] for each in told] == [
        {"type": "PromptProgress", "previous": "", "next": "one"},
        {"type": "PromptProgress", "previous": "one", "next": " two"},
        {"type": "PromptProgress", "previous": "one two", "next": " three"},
        {"type": "PromptCompletion", "previous": "one two three"},
    ]
    assert len({each["stream_id"] for each in told}) == 1


def test_same_calls_work_over_tcp(client: OldClient) -> None:
    client.gain("view_llms")
    assert {each["id"] for each in client.call("get_available_llms", tcp=True)} >= {"echo", "slow", "other"}


def test_loading_unloading_and_listing(client: OldClient) -> None:
    client.gain("view_llms", "load_llm", "unload_llm")
    uuid = client.call("load_llm", llm_id="other")["uuid"]
    assert uuid in [each["uuid"] for each in client.call("get_running_llms")]
    assert client.call("request_running_llms") == client.call("get_running_llms")
    assert client.call("get_llm_status", llm_id=uuid)["running"] is True
    assert client.call("unload_llm", llm_id="other")["running"] is False
    assert uuid not in [each["uuid"] for each in client.call("get_running_llms")]


def test_requests_for_load_unload_and_download(client: OldClient) -> None:
    client.gain("request_load", "request_unload", "request_download")
    load = client.call("request_load", llm_id="echo")
    assert load["request"] == {"type": "LoadRequest", "llm_id": "echo"}
    assert client.call("request_load_flex", filter={"llm_id": "echo"})["id"] == load["id"]
    unload = client.call("request_unload", llm_id="echo")
    assert unload["request"] == {"type": "UnloadRequest", "llm_id": "echo"}
    download = client.call("request_download", llm_registry_entry=json.dumps(ENTRY))
    assert download["request"] == {"type": "DownloadRequest", "llm_registry_entry": ENTRY}
    assert client.refused("load_llm", llm_id="echo")[0] == 401


def test_unknown_url_needs_url_downloads(client: OldClient) -> None:
    client.gain("request_download")
    entry = {**ENTRY, "id": "my-own-model", "url": "https://models.example/x.gguf"}
    status, told = client.refused("request_download", llm_registry_entry=json.dumps(entry))
    assert (status, "turned off" in told) == (401, True)


def test_download_gives_the_uuid_as_text_and_a_known_model_is_not_fetched_again(client: OldClient) -> None:
    client.gain("download_llm", "view_llms")
    entry = {**ENTRY, "id": "echo", "url": "https://models.example/echo.gguf"}
    uuid = client.call("get_or_download_llm", llm_registry_entry=entry)
    assert client.call("get_llm_status", llm_id="echo")["uuid"] == uuid
    assert client.call("download_llm", llm_registry_entry={**entry, "id": uuid}) == uuid


def test_status_of_a_model_that_is_being_downloaded_tells_how_far_it_is(tmp_path: Path) -> None:
    file = make_flatpack(tmp_path / "work", "big", content=gguf("big") + os.urandom(3_000_000))
    path, port = tmp_path / "old.sock", free_port()
    settings = {"PANTRY_COMPAT_2023_SOCKET": str(path), "PANTRY_COMPAT_2023_PORT": str(port)}
    service = Service(tmp_path / "home", {**settings, "PANTRY_URL_DOWNLOADS": "true"})
    trust_signer(service.paths)
    with serving(file.parent, Faults(pause=0.2)) as server, starting(service, "--compat-2023"):
        client, other = OldClient(service, path, port), OldClient(service, path, port)
        for each in (client, other):
            with_key(each, "Old")
            each.gain("download_llm", "view_llms")
        entry = {**ENTRY, "id": "my-own-model", "url": f"{server.url}/{file.name}"}
        uuid = client.call("download_llm", llm_registry_entry=entry)

        def progress() -> float:
            return float(client.call("get_llm_status", llm_id=uuid)["download_progress"])

        assert set(client.call("get_llm_status", llm_id=uuid)) == LLM_STATUS
        wait_until(lambda: 0 < progress() < 100, 30)
        assert other.refused("get_llm_status", llm_id=uuid)[0] == 404
        server.faults.pause = 0
        wait_until(lambda: progress() == 100, 30)
        assert other.call("get_llm_status", llm_id=uuid)["id"] == "my-own-model"


def test_flex_filter_matches_or_404_and_preference_only_sorts(client: OldClient) -> None:
    client.gain("load_llm", "session", "bare_model", "view_llms")
    assert client.call("load_llm_flex", filter={"llm_id": "other"})["llm_info"]["id"] == "other"
    assert client.call("load_llm_flex", preference={"llm_id": "echo"})["llm_info"]["id"] == "echo"
    assert client.call("load_llm_flex", preference={"llm_id": "nowhere", "local": False})["uuid"]
    for filter in (
        {"llm_id": "nowhere"},
        {"llm_uuid": NOTHING},
        {"family_id": "no-family"},
        {"local": False},
        {"minimum_capabilities": [{"capability": "general", "value": 5}]},
    ):
        assert client.refused("load_llm_flex", filter=filter)[0] == 404
    made = client.call(
        "create_session_flex",
        filter={"llm_id": "other"},
        preference={},
        user_session_parameters={"system_prompt": "Hi"},
    )
    assert made["llm_status"]["id"] == "other"
    assert client.call("create_session", user_session_parameters={})["llm_status"]["running"]
    assert Path(client.call("bare_model_flex", filter={"llm_id": "echo"})["path"]).exists()
    assert set(client.call("bare_model", llm_id="echo")) == {"model", "path"}


def test_flex_call_reaches_no_model_beyond_the_grant(client: OldClient) -> None:
    client.gain("load_llm", limits=Limits(models=("ech*",)))
    assert client.call("load_llm_flex", preference={"llm_id": "other"})["llm_info"]["id"] == "echo"
    assert client.refused("load_llm_flex", filter={"llm_id": "other"})[0] == 404
    assert client.refused("load_llm", llm_id="other")[0] == 401
    assert client.refused("request_load_flex", filter={"llm_id": "other"})[0] == 404


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *((name, (401, "Incorrect Permissions")) for name in (
            "load_llm_flex", "create_session_flex", "bare_model_flex", "create_session", "get_available_llms",
            "get_running_llms",
        )),
        ("request_load_flex", (404, "")),  # what may be asked for is nothing, so nothing is found
    ],
)  # fmt: skip
def test_without_permission_nothing_works(client: OldClient, name: str, answer: tuple[int, str]) -> None:
    status, told = client.refused(name, user_session_parameters={})
    assert (status, told[: len(answer[1])]) == answer


def test_interrupt_ends_the_stream_and_keeps_the_session(client: OldClient) -> None:
    client.gain("load_llm", "session")
    uuid = client.call("load_llm", llm_id="slow")["uuid"]
    session = client.call("create_session_id", llm_id="slow", user_session_parameters={})["session_id"]
    connection = HTTPConnection("127.0.0.1", client.port, timeout=20)
    body = {"user_id": client.user_id, "api_key": client.api_key, "session_id": session, "llm_uuid": uuid}
    body |= {"prompt": "w", "parameters": {}}
    connection.request("POST", "/prompt_session_stream", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert b"PromptProgress" in response.readline()
    assert client.refused("interrupt_session", llm_uuid=NOTHING, session_id=session)[0] == 404
    assert client.call("interrupt_session", llm_uuid=uuid, session_id=session)["uuid"] == uuid
    last = events(response.read())[-1]["event"]
    connection.close()
    assert last["type"] == "PromptCompletion"
    assert 0 < len(last["previous"].split()) < 100


def test_failure_during_a_prompt_is_an_event(client: OldClient, old_service: tuple[Service, Path, int]) -> None:
    old_service[0].add_echo("dies", die_after=1)
    client.gain("load_llm", "session")
    uuid = client.call("load_llm", llm_id="dies")["uuid"]
    session = client.call("create_session_id", llm_id="dies", user_session_parameters={})["session_id"]
    body = {"user_id": client.user_id, "api_key": client.api_key, "session_id": session, "llm_uuid": uuid}
    status, content = client.raw("prompt_session_stream", {**body, "prompt": "a b c", "parameters": {}})
    assert (status, events(content)[-1]["event"]["type"]) == (200, "PromptError")


def test_key_of_one_user_does_not_speak_for_another(client: OldClient, old_service: tuple[Service, Path, int]) -> None:
    other = OldClient(*old_service)
    with_key(other, "Another")
    client.gain("session", "load_llm", "request_load")
    client.call("load_llm", llm_id="echo")
    session = client.call("create_session_id", llm_id="echo", user_session_parameters={})["session_id"]
    request = client.call("request_load", llm_id="echo")["id"]
    other.gain("session")
    assert other.refused("get_request_status", request_id=request)[0] == 404
    assert other.refused("interrupt_session", llm_uuid=NOTHING, session_id=session)[0] == 404
    other.user_id = client.user_id
    assert other.refused("get_available_llms") == (401, "Incorrect API Key")


def test_owners_key_is_no_app(client: OldClient) -> None:
    client.api_key = client.service.key
    assert client.refused("get_available_llms")[0] == 401


def test_bad_ids_and_bodies_are_400(client: OldClient) -> None:
    assert client.refused("get_request_status", request_id="seven")[0] == 400
    assert client.refused("load_llm")[0] == 400
    assert client.refused("request_permissions", requested_permissions={"perm_everything": True})[0] == 400
    assert client.refused("no_such_call")[0] == 404
    assert client.raw("get_available_llms", [1])[0] == 400


def test_pages_and_foreign_hosts_are_refused_on_its_port(client: OldClient) -> None:
    assert client.raw("register_user", {"user_name": "x"}, tcp=True, Origin="https://evil.example")[0] == 401
    assert client.raw("register_user", {"user_name": "x"}, tcp=True, Host="evil.example")[0] == 401


def test_socket_of_somebody_else_is_left_alone(tmp_path: Path, home_folder: Path) -> None:
    path = tmp_path / "taken.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        service = Service(home_folder, {"PANTRY_COMPAT_2023_SOCKET": str(path), "PANTRY_PORT": str(free_port())})
        done = run_pantry("up", "--compat-2023", env=service.environment, timeout=30)
        assert done.returncode == 6
        assert "Another program listens" in done.stderr
        assert path.exists()


def test_off_unless_asked_for(tmp_path: Path, home_folder: Path) -> None:
    path = tmp_path / "old.sock"
    with running_service(home_folder, PANTRY_COMPAT_2023_SOCKET=str(path)):
        assert not path.exists()
