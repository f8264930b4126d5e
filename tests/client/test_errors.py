"""An error of the service is, at the client, the error it was: its class, its text and its own fields."""

import json
import socketserver
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from pantry import Client
from pantry.access.apps import REGISTRATIONS
from pantry.client._wire import Address, Replies
from pantry.client.connection import ServiceConnection
from pantry.core.errors import (
    BusyError,
    MissingExtraError,
    PantryError,
    RateLimitError,
    ServiceUnavailableError,
    TermsError,
    error_classes,
    error_from_reply,
)
from pantry.core.paths import find_paths, make_private
from pantry.service.api import openai
from pantry.service.app import error_response
from pantry.service.native import http as native
from pantry.service.native.calls import failure
from tests.service.running import Service, starting

OTHER = {"terms": "Ask first.", "request_id": "r-7", "retry_after": 90}
"""A value of each field that is not its default."""


def made(kind: type[PantryError]) -> PantryError:
    """An error of the class with all that it can carry."""
    if kind is MissingExtraError:
        return MissingExtraError("Reading cards", "cards")
    return kind("It broke.", hint="Mend it.", **{name: OTHER[name] for name in kind.fields})


def body_of(response: web.Response) -> object:
    assert response.text is not None
    return json.loads(response.text)


def over_http(error: PantryError) -> PantryError:
    response = error_response(error, openai.surface)
    return error_from_reply(body_of(response), response.status)


def over_native_http(error: PantryError) -> PantryError:
    response = error_response(error, native.surface)
    return error_from_reply(body_of(response), response.status)


def over_the_call_socket(error: PantryError) -> PantryError:
    with pytest.raises(PantryError) as raised:
        Replies(Address(socket="/s")).take(json.dumps(failure(error)).encode() + b"\n")
    return raised.value


WAYS = [over_http, over_native_http, over_the_call_socket]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_arrives_as_what_it_was(kind: type[PantryError], way: Callable[[PantryError], PantryError]) -> None:
    sent = made(kind)
    got = way(sent)
    assert type(got) is kind
    assert got.__dict__ == sent.__dict__
    assert (str(got), got.code, got.status, got.exit_code) == (str(sent), sent.code, sent.status, sent.exit_code)


def test_every_field_is_set_by_its_class() -> None:
    for kind in error_classes():
        assert set(vars(made(kind))) - {"message", "hint"} == set(kind.fields)


@pytest.mark.parametrize(("kind", "field"), [(BusyError, "retry_after"), (TermsError, "terms")])
def test_fields_that_are_missing_or_of_another_type_keep_their_default(kind: type[PantryError], field: str) -> None:
    for value in ({}, {kind.fields[field]: None}, {kind.fields[field]: ["x"]}, {kind.fields[field]: True}):
        got = error_from_reply({"code": kind.code, "message": "m", **value})
        assert getattr(got, field) == getattr(kind, field)


def test_status_that_differs_from_that_of_the_class_is_kept() -> None:
    sent = PantryError("No such method.")
    sent.status = 405
    assert over_http(sent).status == 405


def test_unknown_code_keeps_its_name_and_status() -> None:
    got = error_from_reply({"error": {"code": "of_next_year", "message": "New."}}, 418)
    assert (type(got), got.code, got.status, got.message) == (PantryError, "of_next_year", 418, "New.")
    assert PantryError.code == "internal_error"


@pytest.mark.parametrize("reply", [None, [], "no", 5, {"error": "no"}, {"error": None}, {"message": 5}])
def test_what_is_not_an_error_reply_is_said(reply: object) -> None:
    with pytest.raises(ServiceUnavailableError, match="status 502"):
        raise error_from_reply(reply, 502)


@pytest.mark.parametrize("reply", [{}, {"error": {}}, {"code": ["x"], "message": ""}, {"code": {}, "hint": 4}])
def test_reply_without_a_reason_says_so(reply: object) -> None:
    assert "gave no reason" in str(error_from_reply(reply))


def test_message_that_does_not_end_with_the_hint_is_left_whole() -> None:
    got = error_from_reply({"code": "busy", "message": "Full.", "hint": "Wait."})
    assert (got.message, got.hint) == ("Full.", "Wait.")


def test_waiting_time_reaches_header_and_both_clients(home: Path, tmp_path: Path) -> None:
    body = {"function": "register_app", "parameters": {"name": "many"}}
    with starting(Service(home)) as service:
        for _ in range(REGISTRATIONS):
            assert service.ask("POST", "/call", body, key=None)[0] == 200
        status, headers, _ = service.ask_raw("POST", "/call", body, key=None)
        assert (status, headers["Retry-After"]) == (429, "60")
        with pytest.raises(RateLimitError) as raised:
            ServiceConnection(service.paths).post("/call", body)
        assert raised.value.retry_after == 60
        program = find_paths({"PANTRY_HOME": str(tmp_path / "program")})
        with pytest.raises(RateLimitError) as raised:
            Client("many", address=f"http://127.0.0.1:{service.port}", paths=program).chat("x", model="echo")
        assert raised.value.retry_after == 60


@pytest.mark.parametrize("body", [b"[]", b"{}", b"not JSON", b'{"error": 5}', b"[" * 100_000])
def test_faulty_answer_of_a_service_is_an_error_of_the_tree(home: Path, body: bytes) -> None:
    paths = find_paths({"PANTRY_HOME": str(home)})
    make_private(paths.run)

    class Broken(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

    with socketserver.UnixStreamServer(str(paths.socket), Broken) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(PantryError, match=r"status 500|gave no reason"):
            ServiceConnection(paths).get("/x")
        thread.join()
