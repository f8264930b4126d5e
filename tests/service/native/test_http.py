"""The native API over HTTP and the call socket, over the echo engine."""

import json
import socket
import sys
from pathlib import Path

import pytest

from pantry.access.apps import limit_app
from pantry.access.requests import Limits, decide_request
from pantry.core.permissions import Grant
from tests.service.calling import Line, make_app
from tests.service.running import Service, events, starting, wait_until

HELLO = {"preferred_model": "echo", "prompt": "one two three"}


def call(service: Service, function: str, parameters: dict[str, object] | None = None, key: str | None = "owner"):
    return service.ask("POST", "/call", {"function": function, "parameters": parameters or {}}, key=key)


@pytest.fixture
def line(service: Service):
    with Line(service) as opened:
        yield opened


def test_handshake_needs_no_key_and_echoes_its_check(service: Service, line: Line) -> None:
    status, answer = call(service, "handshake", {"check": 42}, key=None)
    assert (status, answer["status"]) == (200, "success")
    value = answer["value"]
    assert (value["check"], value["name"], value["auth"], value["caller"]) == (42, "pantry", "key", "nobody")
    assert value["protocols"] == ["call/1"]
    assert line.value("handshake", {"check": 7})["check"] == 7


def test_call_llm_answers_over_both_ways(service: Service, line: Line) -> None:
    line.value("load_llm", {"model": "echo"})
    status, answer = call(service, "call_llm", HELLO)
    assert (status, answer["value"]["text"]) == (200, "one two three")
    assert line.value("call_llm", HELLO) == answer["value"]
    assert answer["value"]["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "cached_tokens": 0}


def test_call_llm_takes_messages_and_generation_parameters(line: Line) -> None:
    messages = [{"role": "user", "content": "one two three"}]
    value = line.value("call_llm", {"preferred_model": "echo", "messages": messages, "max_tokens": 2})
    assert (value["text"], value["finish_reason"]) == ("one two", "length")


def test_streamed_lines_are_partial_and_closed_by_a_success(line: Line) -> None:
    line.send("call_llm", {**HELLO, "stream": True}, id="a")
    replies = [line.read() for _ in range(4)]
    assert [each["status"] for each in replies] == ["partial", "partial", "partial", "success"]
    assert {each["id"] for each in replies} == {"a"}
    assert "".join(each["value"]["text"] for each in replies[:3]) == replies[3]["value"]["text"] == "one two three"


def test_streamed_http_answer_is_server_sent_events_of_the_same_objects(service: Service) -> None:
    body = {"function": "call_llm", "parameters": {**HELLO, "stream": True}}
    status, headers, content = service.ask_raw("POST", "/call", body)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    assert [each["status"] for each in events(content)] == ["partial"] * 3 + ["success"]


def test_broken_stream_is_closed_by_an_error_line(line: Line) -> None:
    answer = line.ask("call_llm", {"preferred_model": "dies", "prompt": "a b c d", "stream": True})
    assert (answer["status"], answer["code"]) == ("error", "engine_failed")


def test_without_a_prompt_call_llm_only_resolves(line: Line) -> None:
    value = line.value("call_llm", {"preferred_model": "never-loads"})
    assert (value["model"], value["action"]) == ("never-loads", "load")
    assert "asked for by name" in value["reason"]


def test_fallback_mode_requirements_takes_a_running_model(service: Service, line: Line) -> None:
    line.value("load_llm", {"model": "echo"})
    wish = {"preferred_model": "nowhere", "fallback_mode": "requirements", "model_requirements": ["CONVERSATIONAL"]}
    value = line.value("call_llm", wish)
    assert (value["state"], value["action"]) == ("loaded", "use")


def test_unknown_requirement_and_mode_name_the_nearest(line: Line) -> None:
    told = line.ask("call_llm", {"fallback_mode": "requirement", "model_requirements": ["CODING"]})["message"]
    assert "'requirements'" in told
    told = line.ask("call_llm", {"fallback_mode": "requirements", "model_requirements": ["CODIN"]})["message"]
    assert "CODING" in told


def test_several_calls_are_in_flight_on_one_connection(line: Line) -> None:
    line.value("load_llm", {"model": "slow"})
    line.send("call_llm", {"preferred_model": "slow", "prompt": "w", "max_tokens": 20}, id=1)
    line.send("call_llm", HELLO, id=2)
    line.send("handshake", {"check": 3}, id=3)
    assert [line.read()["id"] for _ in range(3)] == [3, 2, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a half-closed socket from a closed one")
def test_program_that_only_stopped_sending_gets_its_answers(service: Service) -> None:
    with Line(service) as line:
        line.send("call_llm", {"preferred_model": "slow", "prompt": "a b", "max_tokens": 6}, id=1)
        line.send("call_llm", {"preferred_model": "echo", "prompt": "c d", "stream": True}, id=2)
        line.socket.shutdown(socket.SHUT_WR)
        replies = [json.loads(each) for each in line.file]
    assert {each["id"] for each in replies if each["status"] == "success"} == {1, 2}


def test_leaving_the_socket_stops_the_engine(service: Service) -> None:
    with Line(service) as line:
        line.send("call_llm", {"preferred_model": "slow", "prompt": "w", "stream": True})
        assert line.read()["status"] == "partial"
        assert service.worker_is_busy("slow")
    assert wait_until(lambda: not service.worker_is_busy("slow")) < 2


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({"function": "handshak"}, 404, "'handshake'"),
        ({"function": "handshake", "parameters": {"chek": 1}}, 400, "'check'"),
        ({"function": "handshake", "parameters": {"check": "x"}}, 400, "whole number"),
        ({"function": "handshake", "parameters": []}, 400, "object"),
        ({"function": "handshake", "parametres": {}}, 400, "'parameters'"),
        ({"function": 7}, 400, "Expected"),
        ([], 400, "Expected"),
        ({"function": "load_llm", "parameters": {}}, 400, "'model'"),
        ({"function": "load_llm", "parameters": {"model": "ech"}}, 404, "'echo'"),
        ({"function": "call_llm", "parameters": {**HELLO, "messages": []}}, 400, "not both"),
        ({"function": "call_llm", "parameters": {**HELLO, "temperature": "hot"}}, 400, "temperature"),
        ({"function": "call_llm", "parameters": {**HELLO, "stream": "yes"}}, 400, "true or false"),
        ({"function": "handshake", "key": "pk-x"}, 400, "Authorization"),
    ],
)
def test_wrong_calls_say_what_is_wrong(service: Service, body: object, status: int, word: str) -> None:
    got, answer = service.ask("POST", "/call", body)
    assert (got, answer["status"]) == (status, "error")
    assert word in answer["message"]


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b'{"function":"handshake","function":"load_llm"}', "comes twice"),
        (b'{"function":"handshake","parameters":{"check":NaN}}', "NaN"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a":' * 150 + b"1" + b"}" * 150, "nested too deeply"),
        (b"\xff\xfe{}", "not JSON"),
        ('{"function":"handshake"}'.encode("utf-16-be"), "not JSON"),
        (b'\xef\xbb\xbf{"function":"handshake"}', "not JSON"),
        (b'{"function":"handshake","id":1e999}', "too large"),
        (b'{"function":"handshake","id":"\\ud800"}', "surrogate"),
        (b'{"function":"handshake","key":"\\uDFff"}', "surrogate"),
        (b'{"function":"get_session","parameters":{"session":"\\udead"}}', "surrogate"),
        (b"{", "not JSON"),
    ],
)
def test_json_from_strangers_is_read_strictly(service: Service, line: Line, raw: bytes, word: str) -> None:
    line.send_raw(raw + b"\n")
    told = line.read()
    assert (told["status"], told["code"]) == ("error", "invalid_request")
    assert word in told["message"]
    assert word in service.ask("POST", "/call", raw)[1]["message"]
    assert line.value("handshake", {"check": 1})["check"] == 1


def test_whole_surrogate_pairs_are_text(line: Line) -> None:
    line.send_raw(b'{"function":"handshake","id":"\\ud83e\\udd8a"}\n')
    assert line.read()["id"] == "\U0001f98a"


@pytest.mark.parametrize("function", ["whoami", "call_llm", "list_models", "list_sessions", "list_requests", "choose"])
def test_without_a_key_other_functions_are_401(service: Service, function: str) -> None:
    status, answer = call(service, function, key=None)
    assert (status, answer["code"]) == (401, "unauthorised")


def test_program_registers_asks_and_is_approved(service: Service) -> None:
    with Line(service) as line:
        key = line.value("register_app", {"name": "Notes"})["key"]
        assert line.value("whoami", key=key)["permissions"] == []
        refused = line.ask("call_llm", HELLO)
        assert (refused["code"], "permission session" in refused["message"]) == ("forbidden", True)
        request = line.value("request_permissions", {"permissions": ["session", "load"], "reason": "to write"})
        assert (request["state"], request["complete"]) == ("pending", False)
        line.send("wait_request", {"request": request["id"], "timeout": 10}, id=9)
        decide_request(service.paths, request["id"], Limits(models=("ec*",)))
        answer = line.read()
        assert (answer["id"], answer["value"]["complete"], answer["value"]["accepted"]) == (9, True, True)
        assert line.value("call_llm", HELLO)["text"] == "one two three"
        assert line.ask("call_llm", {"preferred_model": "json", "prompt": "x"})["status"] == "error"
        assert line.value("whoami")["used_today"] == 6


def test_load_that_is_not_allowed_becomes_a_request_and_happens_on_approval(service: Service) -> None:
    key = make_app(service.paths, "Asker", "session", "request-load")
    call(service, "unload_llm", {"model": "json"})
    wish = {"preferred_model": "json", "prompt": "x", "fallback_mode": "load"}
    status, answer = call(service, "call_llm", wish, key=key)
    assert (status, answer["code"]) == (403, "approval_needed")
    assert call(service, "call_llm", wish, key=key)[1]["request"] == answer["request"]
    assert call(service, "load_llm", {"model": "json"}, key=key)[1]["value"]["state"] == "requested"
    decide_request(service.paths, answer["request"], Limits())
    waited = call(service, "wait_request", {"request": answer["request"]}, key=key)[1]["value"]
    assert (waited["state"], waited["outcome"]) == ("done", "loaded")
    assert call(service, "call_llm", wish, key=key)[1]["value"]["text"] == '{"name":"fox"}'


def test_openai_surface_asks_as_well(service: Service) -> None:
    key = make_app(service.paths, "Chatter", "session", "request-load")
    call(service, "unload_llm", {"model": "json"})
    body = {"model": "json", "prompt": "x"}
    status, answer = service.ask("POST", "/v1/completions", body, key=key)
    assert (status, answer["error"]["code"]) == (403, "approval_needed")
    assert call(service, "get_request", {"request": answer["error"]["request"]}, key=key)[1]["value"]["kind"] == "load"
    call(service, "load_llm", {"model": "json"})
    assert service.ask("POST", "/v1/completions", body, key=key)[0] == 200
    assert service.ask("GET", "/v1/models", key=key)[0] == 403


def test_mode_none_asks_nothing_of_the_user(service: Service) -> None:
    key = make_app(service.paths, "Quiet", "session", "request-load")
    call(service, "unload_llm", {"model": "json"})
    answer = call(service, "call_llm", {"preferred_model": "json", "prompt": "x"}, key=key)[1]
    assert answer["code"] == "forbidden"
    assert call(service, "list_requests", key=key)[1]["value"]["requests"] == []


def test_failed_load_ends_its_request_with_the_reason(service: Service) -> None:
    key = make_app(service.paths, "Hoper", "request-load")
    request = call(service, "load_llm", {"model": "never-loads"}, key=key)[1]["value"]["request"]
    decide_request(service.paths, request["id"], Limits())
    done = call(service, "wait_request", {"request": request["id"]}, key=key)[1]["value"]
    assert (done["state"], done["accepted"]) == ("failed", False)
    assert "could not be loaded" in done["outcome"]


def test_download_from_a_url_is_off_by_default(service: Service) -> None:
    key = make_app(service.paths, "Fetcher", "download", "request-download")
    body = {"model": "fox", "url": "https://models.example/fox.gguf"}
    assert call(service, "download_model", body, key=key)[1]["code"] == "forbidden"


def test_download_of_an_installed_model_is_done_at_once(service: Service) -> None:
    key = make_app(service.paths, "Happy", "download")
    assert call(service, "download_model", {"model": "echo"}, key=key)[1]["value"]["state"] == "installed"


def test_app_sees_only_models_it_may_see(service: Service) -> None:
    key = make_app(service.paths, "Viewer", "view", grant=Grant(("ec*",)))
    listed = call(service, "list_models", key=key)[1]["value"]["models"]
    assert [each["name"] for each in listed] == ["echo"]
    assert [each["id"] for each in service.ask("GET", "/v1/models", key=key)[1]["data"]] == ["echo"]


def test_bare_model_is_the_read_only_file(service: Service) -> None:
    key = make_app(service.paths, "Runner", "bare-model")
    value = call(service, "bare_model", {"model": "json"}, key=key)[1]["value"]
    path = Path(value["path"])
    assert json.loads(path.read_text())["reply"] == '{"name":"fox"}'
    assert path.stat().st_mode & 0o222 == 0
    other = make_app(service.paths, "Other", "view")
    assert call(service, "bare_model", {"model": "json"}, key=other)[0] == 403


def test_bare_model_is_for_the_models_of_the_grant(service: Service) -> None:
    key = make_app(service.paths, "Choosy", "bare-model", grant=Grant(("ec*",)))
    assert call(service, "bare_model", {"model": "echo"}, key=key)[0] == 200
    status, answer = call(service, "bare_model", {"model": "json"}, key=key)
    assert (status, "permission bare-model is for ec*" in answer["message"]) == (403, True)


def test_tokens_of_the_day_end_generation(service: Service) -> None:
    with Line(service) as line:
        line.value("load_llm", {"model": "echo"})
        key = line.value("register_app", {"name": "Spender"})["key"]
        request = line.value("request_permissions", {"permissions": ["session"]}, key=key)
        decide_request(service.paths, request["id"], Limits(tokens_per_day=6))
        assert line.ask("call_llm", HELLO)["status"] == "success"
        assert "6 tokens of today" in line.ask("call_llm", HELLO)["message"]


def test_answer_that_was_broken_off_counts_too(service: Service) -> None:
    key = make_app(service.paths, "Hasty", "session", "load")
    limit_app(service.paths, "Hasty", 3)
    with Line(service) as line:
        line.send("call_llm", {"preferred_model": "slow", "prompt": "one two", "stream": True}, key=key)
        assert [line.read()["status"] for _ in range(3)] == ["partial"] * 3
    wait_until(lambda: not service.worker_is_busy("slow"))
    status, answer = call(service, "call_llm", HELLO, key=key)
    assert (status, "3 tokens of today" in answer["message"]) == (403, True)


def test_approved_while_the_service_was_off_is_done_at_the_next_start(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo()
    key = make_app(service.paths, "Notes", "request-load")
    with starting(service):
        request = call(service, "load_llm", {"model": "echo"}, key=key)[1]["value"]["request"]
    decide_request(service.paths, request["id"], Limits(always=True))
    with starting(service):
        done = call(service, "wait_request", {"request": request["id"]}, key=key)[1]["value"]
        assert done["state"] == "done"
        assert service.ask("GET", "/admin/loaded")[1]["loaded"][0]["name"] == "echo"
        assert call(service, "load_llm", {"model": "echo"}, key=key)[1]["value"]["state"] == "loaded"


def test_preference_approves_loads_by_itself(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_APPROVE": '["load"]'})
    service.add_echo()
    key = make_app(service.paths, "Notes", "request-load")
    with starting(service):
        request = call(service, "load_llm", {"model": "echo"}, key=key)[1]["value"]["request"]
        done = call(service, "wait_request", {"request": request["id"]}, key=key)[1]["value"]
        assert (done["state"], done["accepted"]) == ("done", True)


def test_request_shows_a_desktop_notification(home_folder: Path, tmp_path: Path) -> None:
    shown = tmp_path / "shown"
    program = tmp_path / "bin" / "notify-send"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {shown}\n')
    program.chmod(0o755)
    service = Service(home_folder, {"PATH": f"{program.parent}:/usr/bin:/bin"})
    service.add_echo()
    key = make_app(service.paths, "Notes", "request-load")
    with starting(service):
        call(service, "load_llm", {"model": "echo"}, key=key)
        wait_until(lambda: shown.exists() and "Notes wants to load echo" in shown.read_text())
