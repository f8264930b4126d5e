"""A fault in the service itself, on every surface: the reply names a log, and that log holds the traceback."""

import http.client
import json
import sys
from collections.abc import Iterator

import pytest

from pantry.access.apps import list_apps
from pantry.access.requests import Limits, decide_request
from pantry.core.refs import ModelName
from pantry.service.api._compat2023_forms import llm_uuid
from pantry.store.models import Store
from pantry.store.sessions import Sessions
from tests.service.calling import Line, make_app
from tests.service.running import Service, events, free_port

pytestmark = pytest.mark.slow
BREAKING = """
from pantry.engines.pool import Pool
from pantry.service.metrics import Measure
from pantry.service.api._compat2023_forms import llm_uuid
from pantry.store.models import Store

def break_(kind, name):
    def broken(*arguments, **more):
        raise ZeroDivisionError("the words of " + name)
    setattr(kind, name, broken)

break_(Store, "list")
break_(Pool, "unload")

def saw(measure, events):
    if measure.events > 1:
        raise ZeroDivisionError("the words of saw")
    measure.events += events

Measure.saw = saw
from pantry.cli import main
main()
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("faults") / "home"
    settings = {"PANTRY_COMPAT_2023_PORT": str(free_port()), "PANTRY_COMPAT_2023_SOCKET": str(home / "2023.sock")}
    service = Service(home, settings, program=(sys.executable, "-W", "error", "-c", BREAKING))
    service.add_echo("echo", delay=0.1)
    try:
        yield service.start("--compat-2023")
    finally:
        service.stop()


def check(service: Service, told: str, doing: str, name: str) -> None:
    """`told` names the log; its last entry says what was done and where it broke."""
    log = service.paths.fault_log
    assert told == f"A fault in Pantry itself: ZeroDivisionError. Its traceback is in {log}."
    entry = log.read_text().rpartition("while: ")[2]
    assert entry.startswith(f"{doing}\nTraceback")
    assert f"ZeroDivisionError: the words of {name}\n" in entry


def test_route_that_breaks(service: Service) -> None:
    status, answer = service.ask("GET", "/v1/models")
    assert (status, answer["error"]["code"]) == (500, "internal_error")
    check(service, answer["error"]["message"], "handling GET '/v1/models'", "list")


def test_answer_that_breaks_in_the_middle(service: Service) -> None:
    body = {"model": "echo", "prompt": "a secret", "stream": True}
    _, _, content = service.ask_raw("POST", "/v1/completions", body)
    check(service, events(content)[-1]["error"]["message"], "writing an answer", "saw")
    assert "a secret" not in service.paths.fault_log.read_text()


def test_streamed_call_that_breaks_in_the_middle(service: Service) -> None:
    with Store.open(service.paths) as store:
        session = Sessions(store.database, 100_000).create(None, ModelName.parse("echo"), {}).id
    parameters = {"session": session, "prompt": "one two three", "stream": True}
    body = {"function": "call_session", "parameters": parameters, "id": 3}
    status, _, content = service.ask_raw("POST", "/call", body)
    assert status == 200
    *parts, told = events(content)
    assert {each["status"] for each in parts} == {"partial"}
    assert (told["id"], told["status"], told["code"]) == (3, "error", "internal_error")
    check(service, told["message"], "answering call_session", "saw")
    with Line(service) as line:
        assert line.value("get_session", {"session": session})["messages"] == [], "a turn that failed is not kept"


def test_line_of_the_call_socket_that_breaks(service: Service) -> None:
    with Line(service) as line:
        check(service, line.ask("list_models")["message"], "answering list_models", "list")


def test_request_that_breaks_once_it_is_approved(service: Service) -> None:
    with Line(service) as line:
        line.value("load_llm", {"model": "echo"})
    key = make_app(service.paths, "Asker", "request-unload")
    with Line(service) as line:
        request = line.value("unload_llm", {"model": "echo"}, key=key)["request"]
        decide_request(service.paths, request["id"], Limits())
        done = line.value("wait_request", {"request": request["id"]})
    assert done["state"] == "failed"
    check(service, done["outcome"], "doing a request to unload", "unload")


def ask_2023(service: Service, call: str, **body: str) -> tuple[int, str]:
    key = make_app(service.paths, f"Old {call}", "view", "session", "load")
    (app,) = [app.id for app in list_apps(service.paths) if app.name == f"Old {call}"]
    if call == "prompt_session_stream":
        with Store.open(service.paths) as store:
            session = Sessions(store.database, 100_000).create(app, ModelName.parse("echo"), {})
        body |= {"session_id": session.id, "llm_uuid": llm_uuid(session.model)}
    connection = http.client.HTTPConnection("127.0.0.1", int(service.settings["PANTRY_COMPAT_2023_PORT"]), timeout=20)
    connection.request("POST", f"/{call}", json.dumps({"user_id": app, "api_key": key, **body}))
    response = connection.getresponse()
    told = response.read().decode()
    connection.close()
    return response.status, told


def test_call_of_the_2023_release_that_breaks(service: Service) -> None:
    status, told = ask_2023(service, "get_available_llms")
    assert status == 500
    check(service, told, "handling '/get_available_llms'", "list")


def test_stream_of_the_2023_release_that_breaks_in_the_middle(service: Service) -> None:
    status, told = ask_2023(service, "prompt_session_stream", prompt="one two three")
    assert status == 200
    *parts, last = [each["event"] for each in events(told.encode())]
    assert [each["type"] for each in parts] == ["PromptProgress"]
    assert last["type"] == "PromptError"
    check(service, last["message"], "writing an answer", "saw")


def test_log_is_the_owners_alone(service: Service) -> None:
    service.ask("GET", "/v1/models")
    assert service.paths.fault_log.stat().st_mode & 0o777 == 0o600
