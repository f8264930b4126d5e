"""From an engine's chunks to events."""

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import EngineError
from pantry.service.generation import sse
from pantry.service.generation.collected import Collected
from pantry.service.generation.engine_stream import EngineReader
from pantry.service.generation.events import (
    Failure,
    Finish,
    ReasoningDelta,
    Start,
    TextDelta,
    ToolCallBegin,
    ToolCallDelta,
    Usage,
)
from tests.service.generation.recorded import BROKEN, HEAD, SCRIPTS, TIME, WEATHER, chunks_of, conversation, events_of


def chunk(**delta: object) -> bytes:
    return sse.encode({**HEAD, "choices": [{"index": 0, "delta": delta}]})


@pytest.mark.parametrize("name", SCRIPTS)
def test_generation_starts_once_ends_each_answer_once_and_closes_with_usage(name: str) -> None:
    events = events_of(SCRIPTS[name])
    kinds = [type(event) for event in events]
    assert kinds.count(Start) == kinds.count(Finish) == kinds.count(Usage) == 1
    assert kinds[0] is Start
    assert kinds[-2:] == [Finish, Usage]


def test_reasoning_comes_apart_from_text() -> None:
    events = events_of(SCRIPTS["reasoning"])
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "Let me think."
    assert "".join(event.text for event in events if isinstance(event, TextDelta)) == "Four."


def test_calls_begin_with_their_name_and_their_arguments_follow_in_pieces() -> None:
    events = events_of(SCRIPTS["two calls"])
    assert [event for event in events if isinstance(event, ToolCallBegin)] == [
        ToolCallBegin(0, 0, "call_1", "weather"),
        ToolCallBegin(0, 1, "call_2", "time"),
    ]
    pieces = [event.arguments for event in events if isinstance(event, ToolCallDelta) and event.index == 0]
    assert len(pieces) > 2
    assert json.loads("".join(pieces)) == json.loads(WEATHER["arguments"])
    assert Finish(0, "tool_calls") in events
    collected = Collected()
    for event in events:
        collected.feed(event)
    assert collected.answers[0].calls[1].arguments == TIME["arguments"]


def test_name_that_a_provider_repeats_begins_one_call() -> None:
    reader = EngineReader(conversation())
    call = {"index": 0, "id": "a", "function": {"name": "add", "arguments": "{"}}
    again = {"index": 0, "id": "a", "function": {"name": "add", "arguments": "}"}}
    events = [*reader.feed(chunk(tool_calls=[call])), *reader.feed(chunk(tool_calls=[again]))]
    assert [event for event in events if not isinstance(event, Start)] == [
        ToolCallBegin(0, 0, "a", "add"),
        ToolCallDelta(0, 0, "{"),
        ToolCallDelta(0, 0, "}"),
    ]


def test_arguments_before_the_name_are_kept() -> None:
    reader = EngineReader(conversation())
    early, late = {"function": {"arguments": "{"}}, {"id": "a", "function": {"name": "add", "arguments": "}"}}
    events = [*reader.feed(chunk(tool_calls=[early])), *reader.feed(chunk(tool_calls=[late]))]
    assert events[1:] == [ToolCallBegin(0, 0, "a", "add"), ToolCallDelta(0, 0, "{}")]


def test_error_of_the_engine_is_raised() -> None:
    assert isinstance(events_of(BROKEN)[-1], Failure)
    with pytest.raises(EngineError, match="out of memory"):
        list(EngineReader(conversation()).feed(b"".join(chunks_of(BROKEN))))


def test_usage_counts_the_prompt_once_for_several_answers() -> None:
    reader = EngineReader(conversation(n=2))
    for _ in range(2):
        usage = {"prompt_tokens": 4, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
        list(reader.feed(sse.encode({**HEAD, "choices": [], "usage": usage})))
    assert list(reader.feed(sse.DONE)) == [Usage(4, 6, 2)]
    assert reader.done


def test_log_probabilities_are_cut_to_what_was_asked_for() -> None:
    first, second = {"token": "a", "logprob": -1.0}, {"token": "b", "logprob": -2.0}
    token = {**first, "top_logprobs": [first, second]}
    part = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [token]}}
    block = sse.encode({**HEAD, "choices": [part]})
    (_, delta) = EngineReader(conversation(logprobs=1)).feed(block)
    assert isinstance(delta, TextDelta)
    assert delta.tokens == ({**token, "top_logprobs": [first]},)
    (_, plain) = EngineReader(conversation()).feed(block)
    assert isinstance(plain, TextDelta)
    assert plain.tokens == ()


@given(st.lists(st.integers(0, 30), max_size=6))
def test_blocks_may_hold_any_number_of_events(places: list[int]) -> None:
    chunks = list(chunks_of(SCRIPTS["two calls"]))
    edges = sorted({0, len(chunks), *(place % len(chunks) for place in places)})
    reader = EngineReader(conversation())
    found = [event for start, end in itertools.pairwise(edges) for event in reader.feed(b"".join(chunks[start:end]))]
    assert found == events_of(SCRIPTS["two calls"])


def test_only_blocks_of_deltas_alone_are_plain() -> None:
    reader = EngineReader(conversation())
    assert not reader.is_plain(chunk(content="a")), "the start has to be read"
    list(reader.feed(chunk(role="assistant")))
    assert reader.is_plain(chunk(content="a"))
    assert not reader.is_plain(sse.DONE)
    assert not reader.is_plain(chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "add"}}]))
    assert not reader.is_plain(chunk(content="a") + sse.encode({"error": {"message": "no"}}))


TOKEN: dict[str, Any] = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a", "logprob": -1.0}]}
CALL: dict[str, Any] = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}
PART: dict[str, Any] = {"index": 0, "delta": {"content": "a"}, "finish_reason": None, "logprobs": {"content": [TOKEN]}}


@pytest.mark.parametrize(
    "wrong",
    [
        {"index": "0"},
        {"index": -1},
        {"index": [0]},
        {"index": True},
        {"delta": {"content": 5}},
        {"delta": {"reasoning_content": ["a"]}},
        {"delta": {"tool_calls": [{**CALL, "index": "0"}]}},
        {"delta": {"tool_calls": [{**CALL, "id": 7}]}},
        {"delta": {"tool_calls": [{**CALL, "function": {"name": "f", "arguments": {"a": 1}}}]}},
        {"finish_reason": {"reason": "stop"}},
        {"logprobs": {"content": [{"logprob": -1.0}]}},
        {"logprobs": {"content": [{"token": 5, "logprob": -1.0}]}},
        {"logprobs": {"content": [{**TOKEN, "top_logprobs": [{"token": "a"}]}]}},
    ],
    ids=repr,
)
def test_values_of_a_wrong_type_are_found_by_the_reader_and_not_by_a_surface(wrong: dict[str, Any]) -> None:
    reader = EngineReader(conversation(logprobs=2))
    with pytest.raises(ValueError, match="got"):
        list(reader.feed(sse.encode({**HEAD, "choices": [PART | wrong]})))


def test_what_is_left_out_or_null_does_not_matter() -> None:
    empty = {"id": None, "model": None, "created": None, "usage": None, "choices": [{"index": None, "delta": {}}]}
    said = {"choices": [{"delta": {"content": "a", "tool_calls": None}, "finish_reason": None}]}
    reader = EngineReader(conversation())
    assert list(reader.feed(sse.encode(empty) + sse.encode(said))) == [Start("", "", 0), TextDelta(0, "a")]


def test_error_that_is_null_is_none() -> None:
    reader = EngineReader(conversation())
    assert TextDelta(0, "a") in reader.feed(sse.encode({**HEAD, "choices": [PART], "error": None}))


def test_one_of_several_answers_has_to_say_which_it_is() -> None:
    with pytest.raises(ValueError, match="index"):
        list(EngineReader(conversation(n=2)).feed(sse.encode({"choices": [{"delta": {"content": "a"}}]})))


@pytest.mark.parametrize("wrong", [None, -5, "7", 1.5, True, 10**400, [], {}], ids=lambda value: str(value)[:9])
def test_figures_that_make_no_sense_count_as_none(wrong: Any) -> None:
    usage = {"prompt_tokens": wrong, "completion_tokens": wrong, "prompt_tokens_details": {"cached_tokens": wrong}}
    reader = EngineReader(conversation())
    list(reader.feed(sse.encode({**HEAD, "choices": [], "usage": usage, "timings": wrong}) + sse.DONE))
    assert reader.usage == Usage(timings={} if wrong == {} else None)


@pytest.mark.parametrize("usage", [5, "many", [1]], ids=repr)
def test_usage_that_is_no_object_is_passed_over(usage: Any) -> None:
    reader = EngineReader(conversation())
    list(reader.feed(sse.encode({**HEAD, "choices": [], "usage": usage}) + sse.DONE))
    assert reader.usage == Usage()


def test_usage_told_with_every_chunk_is_that_of_the_last() -> None:
    reader = EngineReader(conversation())
    for count in (1, 2, 3):
        usage = {"prompt_tokens": 10, "completion_tokens": count}
        list(reader.feed(sse.encode({**HEAD, "choices": [PART], "usage": usage})))
    assert reader.usage == Usage(10, 3)


def test_usage_of_several_answers_adds_up_with_the_prompt_counted_once() -> None:
    reader = EngineReader(conversation(n=2))
    for count in (1, 2):
        usage = {"prompt_tokens": 10, "completion_tokens": count, "prompt_tokens_details": {"cached_tokens": 4}}
        list(reader.feed(sse.encode({**HEAD, "choices": [], "usage": usage})))
    assert reader.usage == Usage(10, 3, 4)
