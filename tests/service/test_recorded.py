"""Recorded generations played by a real engine process, heard over every surface of a real service."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.service.calling import Line
from tests.service.generation.recorded import BROKEN, SCRIPTS, Script
from tests.service.running import Service, events, starting

MODELS = {name: name.replace(" ", "-") for name in SCRIPTS}
HELLO = [{"role": "user", "content": "Hi there"}]


@pytest.fixture(scope="module")
def player(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a model for each recording."""
    service = Service(tmp_path_factory.mktemp("recorded") / "home")
    for name, script in SCRIPTS.items():
        service.add_echo(MODELS[name], script=script)
    service.add_echo("broken", script=BROKEN)
    service.add_echo("dying", script=[{"text": "The fox"}, {"die": True}])
    with starting(service):
        yield service


def text_of(script: Script) -> str:
    return "".join(step.get("text", "") for step in script)


def ask_openai(service: Service, model: str, *, stream: bool) -> Any:
    body = {"model": model, "messages": HELLO, "stream": stream}
    status, _, content = service.ask_raw("POST", "/v1/chat/completions", body)
    assert status == 200, content
    return events(content) if stream else json.loads(content)


def openai_whole(service: Service, model: str) -> str:
    return ask_openai(service, model, stream=False)["choices"][0]["message"]["content"] or ""


def openai_stream(service: Service, model: str) -> str:
    *chunks, end = ask_openai(service, model, stream=True)
    assert end == "[DONE]"
    return "".join(part["delta"].get("content") or "" for chunk in chunks for part in chunk["choices"])


def native_call(service: Service, model: str) -> str:
    with Line(service) as line:
        answer = line.ask("call_llm", {"preferred_model": model, "messages": HELLO, "stream": True})
    assert answer["status"] == "success", answer
    return str(answer["value"]["text"])


def native_session(service: Service, model: str) -> str:
    with Line(service) as line:
        session = line.ask("create_session", {"preferred_model": model})["value"]["session"]
        answer = line.ask("call_session", {"session": session, "prompt": "Hi"})
    assert answer["status"] == "success", answer
    return str(answer["value"]["text"])


def window_ai(service: Service, model: str) -> str:
    status, answer = service.ask("POST", "/completions", {"model": model, "messages": HELLO})
    assert status == 200, answer
    return "".join(str(each["text"]) for each in answer["choices"])


SURFACES: list[Callable[[Service, str], str]] = [openai_whole, openai_stream, native_call, native_session, window_ai]
each_surface = pytest.mark.parametrize("heard", SURFACES, ids=lambda heard: heard.__name__)


@each_surface
@pytest.mark.parametrize("name", [name for name, script in SCRIPTS.items() if text_of(script)])
def test_every_surface_hears_the_same_text(player: Service, heard: Callable[[Service, str], str], name: str) -> None:
    assert heard(player, MODELS[name]) == text_of(SCRIPTS[name])


def test_calls_reach_an_openai_client_whole_and_streamed(player: Service) -> None:
    message = ask_openai(player, "two-calls", stream=False)["choices"][0]["message"]
    whole = [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in message["tool_calls"]]
    assert message["reasoning_content"] == "I need both."
    assert [name for _, name, _ in whole] == ["weather", "time"]
    joined: dict[int, list[str]] = {}
    for chunk in ask_openai(player, "two-calls", stream=True)[:-1]:
        for part in chunk["choices"]:
            for call in part["delta"].get("tool_calls", ()):
                function = call["function"]
                found = joined.setdefault(call["index"], ["", "", ""])
                found[0] += call.get("id", "")
                found[1] += function.get("name", "")
                found[2] += function["arguments"]
    assert [tuple(joined[index]) for index in sorted(joined)] == whole


def test_reason_of_the_end_is_told(player: Service) -> None:
    assert ask_openai(player, "cut-off", stream=False)["choices"][0]["finish_reason"] == "length"
    assert ask_openai(player, "one-call", stream=False)["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("model", ["broken", "dying"])
def test_stream_that_breaks_off_ends_with_the_error_and_no_end_mark(player: Service, model: str) -> None:
    *said, error = ask_openai(player, model, stream=True)
    assert "".join(part["delta"].get("content") or "" for each in said for part in each["choices"]) == "The fox"
    assert error["error"]["code"] == "engine_failed"


@pytest.mark.parametrize("model", ["broken", "dying"])
def test_whole_answer_that_breaks_off_is_an_error(player: Service, model: str) -> None:
    status, answer = player.ask("POST", "/v1/chat/completions", {"model": model, "messages": HELLO})
    assert (status, answer["error"]["code"]) == (502, "engine_failed")


def test_turn_that_breaks_off_is_not_kept_in_its_session(player: Service) -> None:
    with Line(player) as line:
        session = line.ask("create_session", {"preferred_model": "broken"})["value"]["session"]
        assert line.ask("call_session", {"session": session, "prompt": "Hi"})["status"] == "error"
        assert line.ask("get_session", {"session": session})["value"]["messages"] == []
