"""The contract of every surface's translator: recorded generations in, its wire out, nothing lost."""

import importlib
import inspect
import json
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import pantry.service.api
from pantry.service.api._openai_chunks import ChatChunks, CompletionChunks
from pantry.service.api.windowai import PageChunks
from pantry.service.generation import sse
from pantry.service.generation.answer import Translator
from pantry.service.generation.events import Failure, TextDelta
from pantry.service.generation.request import GenerationRequest
from tests.service.generation.recorded import BROKEN, SCRIPTS, Script, continuation, conversation, events_of


@dataclass(frozen=True)
class Case:
    """A translator, how to make it, and how its client reads text out of a stream and out of a whole answer."""

    make: Callable[[GenerationRequest, bool], Translator]
    request: GenerationRequest
    text_of_stream: Callable[[list[Any]], str]
    text_of_whole: Callable[[dict[str, Any]], str]


def _chat_text(events: list[Any]) -> str:
    return "".join(part["delta"].get("content") or "" for event in events for part in event["choices"])


def _completion_text(events: list[Any]) -> str:
    return "".join(part["text"] for event in events for part in event["choices"])


CASES = {
    ChatChunks: Case(
        lambda request, stream: ChatChunks(request, stream=stream, include_usage=True),
        conversation(),
        _chat_text,
        lambda whole: whole["choices"][0]["message"]["content"] or "",
    ),
    CompletionChunks: Case(
        lambda request, stream: CompletionChunks(request, stream=stream, include_usage=True),
        continuation(),
        _completion_text,
        lambda whole: str(whole["choices"][0]["text"]),
    ),
    PageChunks: Case(
        lambda request, stream: PageChunks(stream=stream),
        conversation(),
        _completion_text,
        lambda whole: "".join(str(each["text"]) for each in whole["choices"]),
    ),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.make(case.request, True).__class__)
each_script = pytest.mark.parametrize("script", SCRIPTS.values(), ids=list(SCRIPTS))


def test_every_translator_is_held_to_the_contract() -> None:
    found = set()
    for module in pkgutil.iter_modules(pantry.service.api.__path__):
        loaded = importlib.import_module(f"pantry.service.api.{module.name}")
        for _, each in inspect.getmembers(loaded, inspect.isclass):
            if hasattr(each, "feed") and hasattr(each, "whole") and not inspect.isabstract(each):
                found.add(each)
    assert {each for each in found if each.__module__.startswith("pantry.service.api.")} == set(CASES)


def spoken(script: Script, request: GenerationRequest) -> str:
    return "".join(event.text for event in events_of(script, request) if isinstance(event, TextDelta))


@each_case
@each_script
def test_stream_is_whole_events_that_carry_all_text(case: Case, script: Script) -> None:
    translator = case.make(case.request, True)
    out = b"".join(translator.feed(event) for event in events_of(script, case.request)) + translator.end()
    events = sse.events(out)
    assert events[-1] == sse.DONE
    assert case.text_of_stream([sse.parse(event) for event in events[:-1]]) == spoken(script, case.request)


@each_case
@each_script
def test_whole_answer_says_what_the_stream_says(case: Case, script: Script) -> None:
    translator = case.make(case.request, False)
    assert not b"".join(translator.feed(event) for event in events_of(script, case.request))
    whole = translator.whole()
    json.dumps(whole, allow_nan=False)
    if any("text" in step for step in script):
        assert case.text_of_whole(whole) == spoken(script, case.request)


@each_case
def test_failure_in_the_middle_is_told_after_what_was_said(case: Case) -> None:
    translator = case.make(case.request, True)
    events = events_of(BROKEN, case.request)
    assert isinstance(events[-1], Failure)
    *said, error = [sse.parse(each) for each in sse.events(b"".join(translator.feed(event) for event in events))]
    assert case.text_of_stream(said) == "The fox"
    assert "out of memory" in error["error"]["message"]


@each_case
def test_failure_of_a_whole_answer_is_raised_or_told(case: Case) -> None:
    translator = case.make(case.request, False)
    for event in events_of(BROKEN, case.request)[:-1]:
        translator.feed(event)
    assert b"out of memory" in translator.feed(events_of(BROKEN, case.request)[-1])
