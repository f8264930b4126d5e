"""The OpenAI surface over the echo engine: forms of answers, errors, refusals."""

import json
import socket
import struct
import time
from typing import Any

import pytest

from tests.service.running import Service, events, wait_until

HELLO = [{"role": "user", "content": "one two three"}]


def chat(service: Service, **body: Any) -> tuple[int, Any]:
    return service.ask("POST", "/v1/chat/completions", {"model": "echo", "messages": HELLO, **body})


def stream(service: Service, path: str = "/v1/chat/completions", **body: Any) -> list[Any]:
    given = {"model": "echo", "stream": True, **body}
    if path.endswith("chat/completions"):
        given = {"messages": HELLO, **given}
    status, headers, content = service.ask_raw("POST", path, given)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream")
    return events(content)


def test_whole_chat_answer_has_openai_form(service: Service) -> None:
    status, answer = chat(service)
    assert status == 200
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "echo"
    assert answer["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "one two three"},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["completion_tokens"] == 3
    assert answer["usage"]["total_tokens"] == 6


def test_streamed_chat_ends_with_done_and_has_no_usage_unasked(service: Service) -> None:
    found = stream(service)
    assert found[-1] == "[DONE]"
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in found[:-1]) == "one two three"
    assert found[-2]["choices"][0]["finish_reason"] == "stop"
    assert not any("usage" in event or "prompt_progress" in event for event in found[:-1])


def test_stream_with_usage_ends_with_one_usage_event(service: Service) -> None:
    found = stream(service, stream_options={"include_usage": True})
    assert [bool(event.get("usage")) for event in found[:-1]][-1:] == [True]
    assert sum("usage" in event for event in found[:-1]) == 1
    assert found[-2]["choices"] == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_several_choices_are_counted_once_in_usage(service: Service, path: str) -> None:
    body = {"prompt": "one two three"} if path == "/v1/completions" else {}
    found = stream(service, path, n=3, stream_options={"include_usage": True}, **body)
    usages = [event["usage"] for event in found[:-1] if "usage" in event]
    assert [(u["prompt_tokens"], u["completion_tokens"]) for u in usages] == [(3, 9)]
    assert {choice["index"] for event in found[:-1] for choice in event["choices"]} == {0, 1, 2}


def test_whole_answer_with_several_choices(service: Service) -> None:
    _, answer = chat(service, n=2)
    assert [(c["index"], c["message"]["content"]) for c in answer["choices"]] == [(0, "one two three")] * 1 + [
        (1, "one two three")
    ]
    assert answer["usage"]["prompt_tokens"] == 3


def test_whole_completion_of_several_prompts(service: Service) -> None:
    status, answer = service.ask("POST", "/v1/completions", {"model": "echo", "prompt": ["a b", "c"]})
    assert status == 200
    assert [choice["text"] for choice in answer["choices"]] == ["a b", "c"]
    assert answer["usage"]["prompt_tokens"] == 3


def test_echo_puts_the_prompt_before_the_text(service: Service) -> None:
    body = {"model": "echo", "prompt": "a b", "echo": True, "max_tokens": 1}
    _, answer = service.ask("POST", "/v1/completions", body)
    assert answer["choices"][0]["text"] == "a ba"
    assert answer["choices"][0]["finish_reason"] == "length"


def test_max_completion_tokens_is_max_tokens(service: Service) -> None:
    _, answer = chat(service, max_completion_tokens=2)
    assert answer["choices"][0]["message"]["content"] == "one two"


def test_text_that_looks_like_usage_is_forwarded(service: Service) -> None:
    said = 'say ,"usage":{"a":1} and "error": now'
    found = stream(service, messages=[{"role": "user", "content": said}])
    assert "".join(e["choices"][0]["delta"].get("content", "") for e in found[:-1]) == said


def test_models_are_listed_with_the_starter_before_it_is_installed(service: Service) -> None:
    _, answer = service.ask("GET", "/v1/models")
    names = {model["id"] for model in answer["data"]}
    assert {"echo", "slow", "starter"} <= names
    _, one = service.ask("GET", "/v1/models/echo")
    assert one["id"] == "echo"
    assert one["pantry"]["context"] == 50


def test_unknown_model_is_404_with_the_nearest(service: Service) -> None:
    status, answer = chat(service, model="ecko")
    assert (status, answer["error"]["code"]) == (404, "model_not_found")
    assert "Did you mean 'echo'?" in answer["error"]["message"]


def test_too_long_prompt_says_by_how_much(service: Service) -> None:
    status, answer = chat(service, messages=[{"role": "user", "content": "w " * 60}])
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert "60 tokens; the context holds 50: 10 too many" in answer["error"]["message"]


BAD_BODIES = {
    "not json": (b"{not json", "not JSON"),
    "a list": ([], "JSON object"),
    "no messages": ({"model": "echo"}, "messages: Field required"),
    "empty messages": ({"model": "echo", "messages": []}, "messages"),
    "no role": ({"model": "echo", "messages": [{"content": "x"}]}, "message 0 has no role"),
    "number as content": ({"model": "echo", "messages": [{"role": "user", "content": 3}]}, "neither text"),
    "hot": ({"model": "echo", "messages": HELLO, "temperature": 99}, "temperature"),
    "zero tokens": ({"model": "echo", "messages": HELLO, "max_tokens": 0}, "max_tokens"),
    "many choices": ({"model": "echo", "messages": HELLO, "n": 1000}, "n: "),
    "model name": ({"model": "../../etc/passwd", "messages": HELLO}, "not a model name"),
    "deep": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
    "not utf-8": (b'{"model": "\xff\xfe"}', "not JSON"),
}


@pytest.mark.parametrize(("body", "message"), BAD_BODIES.values(), ids=BAD_BODIES)
def test_bad_body_is_400_and_names_what_is_wrong(service: Service, body: Any, message: str) -> None:
    status, answer = service.ask("POST", "/v1/chat/completions", body)
    assert status == 400
    assert message in answer["error"]["message"]


def test_body_over_the_limit_is_413_before_it_is_read(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as sock:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.key}\r\n"
        sock.sendall(f"{head}Content-Length: 100000000\r\n\r\n".encode() + b"x" * 1000)
        assert sock.recv(100).startswith(b"HTTP/1.1 413")


def test_chunked_body_over_the_limit_is_413(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as sock:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.key}\r\n"
        sock.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        try:
            for _ in range(20):
                sock.sendall(chunk)
        except (BrokenPipeError, ConnectionResetError):
            return  # answered and closed while we were sending
        assert sock.recv(100).startswith(b"HTTP/1.1 413")


def test_client_that_sends_its_body_too_slowly_is_refused(service: Service) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as sock:
        head = f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.key}\r\n"
        sock.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        sock.settimeout(10)
        answer = sock.recv(4000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"did not come within" in answer


def test_unknown_route_names_the_nearest(service: Service) -> None:
    status, answer = service.ask("POST", "/v1/chat/completion", {})
    assert status == 404
    assert "/v1/chat/completions" in answer["error"]["message"]


def test_wrong_method_names_the_right_one(service: Service) -> None:
    status, answer = service.ask("GET", "/v1/chat/completions")
    assert status == 405
    assert "POST" in answer["error"]["message"]


def test_worker_that_dies_mid_stream_gives_an_error_event_and_the_next_request_works(service: Service) -> None:
    found = stream(service, model="dies")
    assert "killed" in found[-1]["error"]["message"]
    assert "[DONE]" not in found
    status, answer = chat(service, model="dies", max_tokens=1)
    assert (status, answer["choices"][0]["message"]["content"]) == (200, "one")


def test_worker_that_dies_gives_a_whole_answer_an_error_status(service: Service) -> None:
    status, answer = chat(service, model="dies")
    assert (status, answer["error"]["code"]) == (502, "engine_failed")


def test_model_that_does_not_load_tells_the_engines_reason(service: Service) -> None:
    status, answer = chat(service, model="never-loads")
    assert (status, answer["error"]["code"]) == (502, "engine_failed")
    assert "the echo model says so" in answer["error"]["message"]


@pytest.mark.parametrize("model", ["slow", "prefill"])
@pytest.mark.parametrize("streamed", [True, False])
def test_generation_stops_within_a_second_when_the_client_leaves(service: Service, model: str, streamed: bool) -> None:
    body = json.dumps({"model": model, "messages": HELLO, "stream": streamed}).encode()
    with socket.create_connection(("127.0.0.1", service.port)) as sock:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.key}\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: service.worker_is_busy(model))
        time.sleep(0.1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert wait_until(lambda: not service.worker_is_busy(model)) < 1


SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


def with_schema(schema: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def test_answer_that_meets_its_schema_is_given(service: Service) -> None:
    status, answer = chat(service, model="json", response_format=with_schema(SCHEMA))
    assert (status, answer["choices"][0]["message"]["content"]) == (200, '{"name":"fox"}')


def test_answer_that_breaks_its_schema_is_an_error(service: Service) -> None:
    status, answer = chat(service, model="liar", response_format=with_schema(SCHEMA))
    assert (status, answer["error"]["code"]) == (502, "engine_failed")
    assert "7 is not of type 'string'" in answer["error"]["message"]


def test_streamed_answer_that_breaks_its_schema_ends_with_an_error_event(service: Service) -> None:
    found = stream(service, model="liar", response_format=with_schema(SCHEMA))
    assert "breaks the JSON schema" in found[-1]["error"]["message"]


def test_json_object_is_checked_too(service: Service) -> None:
    status, answer = chat(service, response_format={"type": "json_object"})
    assert status == 502
    assert "not JSON" in answer["error"]["message"]


BAD_SCHEMAS = {
    "type": ({"type": "objct"}, "not valid"),
    "no object": (["type"], "is an object"),
    "outside reference": ({"$ref": "http://127.0.0.1:1/x"}, "outside itself"),
    "huge": ({"enum": ["x" * 70_000]}, "too large"),
}


@pytest.mark.parametrize(("schema", "message"), BAD_SCHEMAS.values(), ids=BAD_SCHEMAS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_bad_schema_is_refused_before_the_engine_sees_it(
    service: Service, path: str, schema: Any, message: str
) -> None:
    body = {"model": "json", "messages": HELLO, "prompt": "x", "response_format": with_schema(schema)}
    status, answer = service.ask("POST", path, body)
    assert status == 400
    assert message in answer["error"]["message"]


def test_full_queue_is_503_with_retry_after(tmp_path: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    service = Service(tmp_path / "home", {"PANTRY_QUEUE": "1", "PANTRY_PARALLEL": "1"})
    service.add_echo("slow", delay=0.1)
    from tests.service.running import starting

    with starting(service), ThreadPoolExecutor(4) as threads:
        body = {"model": "slow", "messages": HELLO}
        answers = list(threads.map(lambda _: service.ask_raw("POST", "/v1/chat/completions", body), range(4)))
    refused = [(status, headers) for status, headers, _ in answers if status != 200]
    assert len(refused) == 2
    assert all(status == 503 and headers["Retry-After"] == "1" for status, headers in refused)


@pytest.mark.parametrize("field", ["n", "stream", "logprobs", "stop", "max_tokens", "response_format", "tools"])
def test_null_means_absent(service: Service, field: str) -> None:
    assert chat(service, **{field: None})[0] == 200


REFUSED = {
    "token beyond any vocabulary": ({"prompt": [2**40]}, "prompt"),
    "true as a token": ({"prompt": [True]}, "prompt"),
    "huge max_tokens": ({"max_tokens": 2**40}, "max_tokens"),
    "huge seed": ({"seed": 2**70}, "seed"),
    "best_of": ({"best_of": 3}, "best_of"),
    "half a surrogate pair": ({"prompt": "\ud800"}, "surrogate"),
}


@pytest.mark.parametrize(("fields", "message"), REFUSED.values(), ids=REFUSED)
def test_value_that_cannot_be_honoured_is_refused(service: Service, fields: dict[str, Any], message: str) -> None:
    status, answer = service.ask("POST", "/v1/completions", {"model": "echo", "prompt": "a", **fields})
    assert status == 400
    assert message in answer["error"]["message"]


CHAT_REFUSED = {
    "image": ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "not text"),
    "part without text": ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "not text"),
    "empty tool": ({"tools": [{}]}, "tools"),
    "call without tools": ({"tool_choice": "required"}, "no tools"),
    "template's own names": ({"chat_template_kwargs": {"messages": []}}, "messages"),
}


@pytest.mark.parametrize(("fields", "message"), CHAT_REFUSED.values(), ids=CHAT_REFUSED)
def test_chat_field_that_cannot_be_honoured_is_refused(service: Service, fields: dict[str, Any], message: str) -> None:
    status, answer = chat(service, **fields)
    assert status == 400
    assert message in answer["error"]["message"]


def test_answer_without_the_required_tool_call_is_an_error(service: Service) -> None:
    tools = [{"type": "function", "function": {"name": "add"}}]
    status, answer = chat(service, tools=tools, tool_choice="required")
    assert (status, answer["error"]["code"]) == (502, "engine_failed")


def test_compressed_body_is_refused(service: Service) -> None:
    headers = {"Content-Encoding": "gzip"}
    assert service.ask("POST", "/v1/completions", b"\x1f\x8bnonsense", headers=headers)[0] == 400


def test_large_body_of_tiny_parts_does_not_stop_the_service(service: Service) -> None:
    import threading

    body = b'{"model": "echo", "prompt": "a", "x": [' + b"[]," * 600_000 + b"[]]}"
    thread = threading.Thread(target=lambda: service.ask("POST", "/v1/completions", body))
    thread.start()
    worst = 0.0
    while thread.is_alive():
        start = time.monotonic()
        assert service.ask("GET", "/healthz")[0] == 200
        worst = max(worst, time.monotonic() - start)
    assert worst < 5
