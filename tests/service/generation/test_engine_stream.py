"""From an engine's chunks to events."""

import itertools
import json

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
    token = {"token": "a", "logprob": -1.0, "top_logprobs": [{"token": "a"}, {"token": "b"}]}
    part = {"index": 0, "delta": {"content": "a"}, "logprobs": {"content": [token]}}
    block = sse.encode({**HEAD, "choices": [part]})
    (_, delta) = EngineReader(conversation(logprobs=1)).feed(block)
    assert isinstance(delta, TextDelta)
    assert delta.tokens == ({**token, "top_logprobs": [{"token": "a"}]},)
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
    assert not reader.is_plain(chunk(content="a") + sse.encode({"error": {"message": "no"}}))
