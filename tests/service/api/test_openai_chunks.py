"""OpenAI's chunks beyond the contract of translators: usage, calls, log-probabilities, and what is passed on unread."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.service.api._openai_chunks import ChatChunks, CompletionChunks, legacy_logprobs
from pantry.service.generation import sse
from pantry.service.generation.engine_stream import EngineReader
from pantry.service.generation.events import Event, Finish, Start, TextDelta, Usage
from pantry.service.generation.output_schema import OutputSchema
from pantry.service.generation.request import Continuation, Conversation, GenerationRequest, Sampling
from tests.service.generation.recorded import SCRIPTS, Script, chunks_of, continuation, conversation, events_of


def streamed(script: Script, *, include_usage: bool = False, **more: Any) -> list[Any]:
    request = conversation(**more)
    translator = ChatChunks(request, stream=True, include_usage=include_usage)
    return [sse.parse(each) for event in events_of(script, request) for each in sse.events(translator.feed(event))]


def whole(script: Script, **more: Any) -> Any:
    request = conversation(**more)
    translator = ChatChunks(request, stream=False, include_usage=False)
    for event in events_of(script, request):
        translator.feed(event)
    return translator.whole()


def test_stream_begins_with_the_role_and_has_one_head() -> None:
    first, *rest = streamed(SCRIPTS["text"])
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert {(each["id"], each["created"], each["model"], each["object"]) for each in (first, *rest)} == {
        ("gen-1", 5, "m", "chat.completion.chunk")
    }


def test_usage_is_sent_once_at_the_end_when_asked_for() -> None:
    assert not any("usage" in each for each in streamed(SCRIPTS["text"]))
    *rest, last = streamed(SCRIPTS["text"], include_usage=True)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == 8
    assert last["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert last["timings"] == {"predicted_ms": 1.5}
    assert not any("usage" in each for each in rest)


def test_whole_answer_has_calls_reasoning_and_figures() -> None:
    answer = whole(SCRIPTS["two calls"])
    (choice,) = answer["choices"]
    assert choice["message"]["content"] is None
    assert choice["message"]["reasoning_content"] == "I need both."
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather", "time"]
    assert choice["finish_reason"] == "tool_calls"
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["prompt_tokens"] == 4


def test_streamed_calls_carry_id_and_name_first_and_arguments_after() -> None:
    calls = [
        call for each in streamed(SCRIPTS["one call"]) for call in each["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert (calls[0]["id"], calls[0]["function"]["name"]) == ("call_1", "weather")
    assert all(set(call) == {"index", "function"} for call in calls[1:])


def test_plain_streams_may_be_passed_on_unread_and_no_others() -> None:
    plain = conversation()
    assert ChatChunks(plain, stream=True, include_usage=True).splices
    assert not ChatChunks(plain, stream=False, include_usage=False).splices
    assert not CompletionChunks(continuation(), stream=True, include_usage=False, echo="Hi").splices
    calling = GenerationRequest(Conversation([], tool_choice={"type": "function"}), Sampling())
    for request in (
        conversation(n=2),
        conversation(logprobs=0),
        conversation(schema=OutputSchema(None)),
        calling,
        GenerationRequest(Continuation(["a", "b"]), Sampling()),
    ):
        assert not ChatChunks(request, stream=True, include_usage=False).splices


@given(st.lists(st.integers(0, 60), max_size=12), st.sampled_from(sorted(SCRIPTS)))
def test_what_is_passed_on_unread_and_what_is_read_join_to_one_stream(places: list[int], name: str) -> None:
    """However the engine's bytes come, a client reads the same: blocks that are spliced leave nothing out of others."""
    request = conversation()
    chunks = list(chunks_of(SCRIPTS[name]))
    edges = sorted({0, len(chunks), *(place % len(chunks) for place in places)})
    reader, translator, out = EngineReader(request), ChatChunks(request, stream=True, include_usage=True), b""
    for start, end in itertools.pairwise(edges):
        block = b"".join(chunks[start:end])
        plain = translator.splices and reader.is_plain(block)
        out += block if plain else b"".join(translator.feed(event) for event in reader.feed(block))
    heard = EngineReader(request)
    assert list(heard.feed(out + sse.DONE))[1:-1] == events_of(SCRIPTS[name])[1:-1]


def test_several_answers_each_begin_and_are_told_in_order() -> None:
    request = conversation(n=2)
    translator = ChatChunks(request, stream=False, include_usage=False)
    events: list[Event] = [
        Start("a", "m", 1), TextDelta(1, "second"), TextDelta(0, "first"), Finish(1, "stop"), Finish(0, "length"),
        Usage(1, 2),
    ]  # fmt: skip
    for event in events:
        translator.feed(event)
    told = translator.whole()["choices"]
    assert [(each["index"], each["message"]["content"], each["finish_reason"]) for each in told] == [
        (0, "first", "length"),
        (1, "second", "stop"),
    ]
    streaming = ChatChunks(request, stream=True, include_usage=False)
    assert len(sse.events(streaming.feed(events[0]))) == 2, "a role for each"


def test_echoed_prompt_stands_before_the_text() -> None:
    translator = CompletionChunks(continuation(), stream=False, include_usage=False, echo="Hi")
    for event in events_of(SCRIPTS["text"], continuation()):
        translator.feed(event)
    assert translator.whole()["choices"][0]["text"] == "HiThe fox is quick."


@pytest.mark.parametrize("stream", [True, False])
def test_log_probabilities_of_completions_count_characters(stream: bool) -> None:
    tokens = ({"token": "é", "logprob": -0.5, "top_logprobs": []}, {"token": "bc", "logprob": -1.0})
    request = continuation(logprobs=0)
    translator = CompletionChunks(request, stream=stream, include_usage=False)
    out = [translator.feed(event) for event in (TextDelta(0, "é", tokens[:1]), TextDelta(0, "bc", tokens[1:]))]
    found = [sse.parse(each)["choices"][0]["logprobs"]["text_offset"] for each in out] if stream else []
    if not stream:
        assert translator.whole()["choices"][0]["logprobs"]["text_offset"] == [0, 1]
    else:
        assert found == [[0], [1]]


def test_legacy_logprobs_start_where_they_are_told() -> None:
    found = legacy_logprobs([{"token": "é", "logprob": -0.5}, {"token": "bc", "logprob": -1.0}], 3)
    assert found["text_offset"] == [3, 4]
    assert found["token_logprobs"] == [-0.5, -1.0]
