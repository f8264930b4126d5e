"""window.ai's local server: pages are apps, approved by the user."""

from pathlib import Path

import pytest

from pantry.access.apps import add_app, list_apps
from pantry.access.requests import Limits, decide_request
from pantry.core.permissions import Grant, Permission
from tests.service.calling import make_app
from tests.service.running import Service, events, wait_until

PAGE = "https://notes.example"
HEADERS = {"HTTP-Referer": f"{PAGE}/today", "X-WINDOWAI-TITLE": "Notes%20page"}
HELLO = {"prompt": "one two three", "model": "echo"}


@pytest.fixture(scope="module", autouse=True)
def approved(service: Service) -> None:
    add_app(service.paths, "Notes page", PAGE, [Permission.SESSION, Permission.LOAD], Grant())


def test_prompt_and_messages_give_choices(service: Service) -> None:
    status, answer = service.ask("POST", "/completions", HELLO, headers=HEADERS)
    assert (status, answer) == (200, {"choices": [{"text": "one two three"}]})
    messages = {"messages": [{"role": "user", "content": "four five"}], "model": "echo", "num_generations": 2}
    _, answer = service.ask("POST", "/completions", messages, headers=HEADERS)
    assert answer == {"choices": [{"text": "four five"}, {"text": "four five"}]}


def test_stream_has_chunks_of_the_same_form(service: Service) -> None:
    status, headers, content = service.ask_raw("POST", "/completions", {**HELLO, "stream": True}, headers=HEADERS)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    *chunks, end = events(content)
    assert "".join(each["choices"][0]["text"] for each in chunks) == "one two three"
    assert end == "[DONE]"


def test_model_says_which_would_answer(service: Service) -> None:
    assert service.ask("POST", "/model", HELLO, headers=HEADERS) == (200, {"id": "echo"})
    status, answer = service.ask("POST", "/model", {"prompt": "x"}, headers=HEADERS)
    assert status == 200
    assert answer["id"]


@pytest.mark.parametrize("stop", ["two", ["two"]])
def test_stop_sequences_are_text_or_list(service: Service, stop: object) -> None:
    assert service.ask("POST", "/completions", {**HELLO, "stop_sequences": stop}, headers=HEADERS)[0] == 200


def test_neither_or_both_of_prompt_and_messages_is_an_error(service: Service) -> None:
    for body in ({"model": "echo"}, {**HELLO, "messages": []}):
        status, answer = service.ask("POST", "/completions", body, headers=HEADERS)
        assert (status, "prompt or messages" in answer["error"]["message"]) == (400, True)


def test_unapproved_page_becomes_a_request_and_works_once_approved(service: Service) -> None:
    headers = {"HTTP-Referer": "https://draw.example", "X-WINDOWAI-TITLE": "Draw%20it"}
    status, answer = service.ask("POST", "/completions", HELLO, headers=headers)
    assert (status, answer["error"]["code"]) == (403, "approval_needed")
    again = service.ask("POST", "/completions", HELLO, headers=headers)[1]
    assert again["error"]["request"] == answer["error"]["request"]
    _, line = decide_request(service.paths, answer["error"]["request"], Limits())
    assert line == "Draw it asks for the permissions request-load, session"
    service.ask("POST", "/admin/load", {"model": "echo"})
    assert service.ask("POST", "/completions", HELLO, headers=headers)[0] == 200


@pytest.mark.parametrize("title", ["x" * 300, "A%00b%E2%80%AEc", "%ED%A0%80"])
def test_title_that_fits_no_app_is_cut_to_what_does(service: Service, title: str) -> None:
    origin = f"https://title-{len(title)}.example"
    headers = {"HTTP-Referer": origin, "X-WINDOWAI-TITLE": title}
    assert service.ask("POST", "/completions", HELLO, headers=headers)[1]["error"]["code"] == "approval_needed"
    (name,) = [each.name for each in list_apps(service.paths) if each.origin == origin]
    assert name.isprintable()
    assert 0 < len(name) <= 80


def test_approved_page_asks_for_a_model_that_is_not_loaded(service: Service) -> None:
    headers = {"HTTP-Referer": "https://loads.example"}
    asked = service.ask("POST", "/completions", HELLO, headers=headers)[1]["error"]
    decide_request(service.paths, asked["request"], Limits())
    service.ask("POST", "/admin/unload", {"model": "json"})
    wanted = {"prompt": "one", "model": "json"}
    status, answer = service.ask("POST", "/completions", wanted, headers=headers)
    assert (status, answer["error"]["code"]) == (403, "approval_needed")
    assert "may not load it" in answer["error"]["message"]
    decide_request(service.paths, answer["error"]["request"], Limits())
    wait_until(lambda: service.ask("POST", "/completions", wanted, headers=headers)[0] == 200, 15)


def test_page_posting_to_loopback_by_itself_is_refused_and_leaves_nothing(service: Service) -> None:
    headers = {"Origin": "https://evil.example"}
    before = len(list_apps(service.paths))
    assert service.ask("POST", "/completions", HELLO, headers={"Origin": "https://["})[0] == 403
    for key in (None, "owner"):
        status, sent, _ = service.ask_raw("POST", "/completions", HELLO, key=key, headers=headers)
        assert status == 403
        assert "Access-Control-Allow-Origin" not in sent
    assert len(list_apps(service.paths)) == before


def test_cors_answers_only_for_approved_origins_and_only_there(service: Service) -> None:
    ask = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    status, headers, _ = service.ask_raw("OPTIONS", "/completions", headers=ask, key=None)
    assert (status, headers["Access-Control-Allow-Origin"]) == (204, PAGE)
    foreign = {**ask, "Origin": "https://evil.example"}
    for path, wrong in (("/v1/models", ask), ("/completions", foreign)):
        status, headers, _ = service.ask_raw("OPTIONS", path, headers=wrong, key=None)
        assert (status, "Access-Control-Allow-Origin" in headers) == (403, False), "not even the refusal may be read"
    status, headers, _ = service.ask_raw("POST", "/completions", HELLO, headers={"Origin": PAGE})
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, PAGE)


def test_approved_page_needs_a_key_all_the_same(service: Service) -> None:
    assert service.ask("POST", "/completions", HELLO, key=None, headers={"Origin": PAGE})[0] == 401
    keyed = {"Origin": "chrome-extension://abc", "X-API-KEY": service.key, "HTTP-Referer": PAGE}
    assert service.ask("POST", "/completions", HELLO, key=None, headers=keyed)[0] == 200
    nobody = {"Origin": "chrome-extension://abc", "HTTP-Referer": PAGE}
    assert service.ask("POST", "/completions", HELLO, key=None, headers=nobody)[0] == 401


def test_key_of_an_app_does_not_borrow_a_pages_permission(service: Service) -> None:
    key = make_app(service.paths, "Borrower", "view")
    assert service.ask("POST", "/completions", HELLO, key=key, headers=HEADERS)[0] == 403


@pytest.mark.parametrize("referer", ["notes.example", "file:///etc", "https://", "https://[", "null"])
def test_referer_that_is_no_origin_is_an_error(service: Service, referer: str) -> None:
    assert service.ask("POST", "/completions", HELLO, headers={"HTTP-Referer": referer})[0] == 400


def test_origin_header_wins_over_the_told_referer(service: Service, tmp_path: Path) -> None:
    headers = {"Origin": PAGE, "HTTP-Referer": "https://evil.example"}
    assert service.ask("POST", "/completions", HELLO, headers=headers)[0] == 200
    assert "https://evil.example" not in [app.origin for app in list_apps(service.paths)]
