"""The rules for chunks, without a server: any cutting of the stream gives the same answer."""

import asyncio
import itertools
import json
import time
from typing import Any

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import EngineError, UsageError
from pantry.service.generation import sse as _sse
from pantry.service.generation.chunks import Answer, ResponseOptions, legacy_logprobs
from pantry.service.generation.output_schema import OutputSchema

HEAD = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m"}


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {**HEAD, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}], **more}


USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
CHUNKS = [
    chunk(prompt_progress={"total": 4}),
    chunk("he"),
    chunk('llo "usage": \n\n'),
    chunk(None, "stop"),
    {**HEAD, "choices": [], "usage": USAGE, "timings": {"x": 1}},
]
STREAM = b"".join(_sse.encode(each) for each in CHUNKS) + b": keep-alive\n\n" + _sse.DONE


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges) if a != b]


async def blocks_of(parts: list[bytes]) -> list[bytes]:
    loop = asyncio.get_running_loop()
    reader = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    for part in parts:
        reader.feed_data(part)
    reader.feed_eof()
    return [block async for block in _sse.blocks(reader)]


@given(st.lists(st.integers(0, 10**6), max_size=12))
def test_blocks_hold_whole_events_however_the_bytes_come(places: list[int]) -> None:
    found = asyncio.run(blocks_of(cut(STREAM, places)))
    assert b"".join(found) == STREAM
    assert all(block.endswith(_sse.END) for block in found)


def fed(wanted: ResponseOptions, stream: bytes = STREAM) -> tuple[Answer, list[Any]]:
    answer = Answer(wanted)
    out = b"".join(answer.feed(event) for event in _sse.events(stream))
    return answer, [_sse.parse(event) for event in _sse.events(out)]


def test_plain_stream_drops_progress_and_usage_and_keeps_the_rest() -> None:
    answer, out = fed(ResponseOptions(chat=True, stream=True))
    assert answer.done
    assert (answer.prompt_tokens, answer.completion_tokens) == (4, 2)
    assert [event for event in out if event] == CHUNKS[1:4]


def test_usage_is_sent_once_at_the_end_when_asked_for() -> None:
    _, out = fed(ResponseOptions(chat=True, stream=True, include_usage=True))
    assert out[-2]["usage"]["total_tokens"] == 6
    assert out[-2]["timings"] == {"x": 1}
    assert out[-2]["choices"] == []
    assert sum("usage" in (event or {}) for event in out) == 1


def test_whole_answer_joins_the_pieces() -> None:
    answer, _ = fed(ResponseOptions(chat=True, stream=False))
    whole = answer.whole()
    assert whole["choices"][0]["message"]["content"] == 'hello "usage": \n\n'
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert (whole["id"], whole["model"], whole["created"]) == ("c1", "m", 5)


def test_tool_calls_are_put_together() -> None:
    parts = [
        {"index": 0, "id": "t1", "type": "function", "function": {"name": "add", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    stream = b"".join(
        _sse.encode({**HEAD, "choices": [{"index": 0, "delta": {"tool_calls": [part]}}]}) for part in parts
    )
    answer, _ = fed(ResponseOptions(chat=True, stream=False), stream + _sse.DONE)
    message = answer.whole()["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"function": {"name": "add", "arguments": '{"a": 1}'}, "id": "t1", "type": "function"}
    ]


def test_error_of_the_engine_is_raised() -> None:
    with pytest.raises(EngineError, match="no luck"):
        fed(ResponseOptions(chat=True, stream=True), _sse.encode({"error": {"message": "no luck"}}))


def test_legacy_logprobs_count_offsets_in_characters() -> None:
    tokens = [{"token": "é", "logprob": -0.5, "top_logprobs": []}, {"token": "bc", "logprob": -1.0}]
    found = legacy_logprobs(tokens, 3)
    assert found["text_offset"] == [3, 4]
    assert found["token_logprobs"] == [-0.5, -1.0]


def test_endless_event_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sse, "MAX_EVENT", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        asyncio.run(blocks_of([b"data: " + b"x" * 200]))


@pytest.mark.parametrize(
    ("schema", "text", "good"),
    [
        ({"type": "integer"}, "7", True),
        ({"type": "integer"}, "7.5", False),
        ({"type": "integer"}, "seven", False),
        (None, '{"a": 1}', True),
        (None, "[1]", False),
        ({"$ref": "#"}, "1", False),
    ],
)
def test_answer_is_checked_against_its_schema(schema: Any, text: str, good: bool) -> None:
    check = OutputSchema(schema) if schema is None else OutputSchema.parse(schema)
    if good:
        check.check(text)
    else:
        with pytest.raises(EngineError):
            check.check(text)


def refused(schema: Any) -> str:
    with pytest.raises(UsageError) as caught:
        OutputSchema.parse(schema)
    return str(caught.value)


def text_schema(pattern: str) -> Any:
    return {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}


def test_pattern_is_checked_in_linear_time() -> None:
    schema = OutputSchema.parse(text_schema("^(a+)+$"))
    schema.check(json.dumps({"a": "a" * 60}))
    with pytest.raises(EngineError, match="does not match"):
        schema.check(json.dumps({"a": "a" * 60 + "!"}))


@pytest.mark.parametrize("pattern", ["^a(?=b)c$", r"^(a)\1$", "["])
def test_pattern_that_cannot_be_checked_is_refused(pattern: str) -> None:
    assert "RE2" in refused(text_schema(pattern))


@pytest.mark.parametrize("keyword", ["patternProperties", "not", "if", "unevaluatedProperties", "contains"])
def test_keyword_that_cannot_be_enforced_is_refused_wherever_it_stands(keyword: str) -> None:
    assert keyword in refused({"type": "array", "items": {keyword: {}}})


def test_property_with_the_name_of_a_keyword_is_fine() -> None:
    OutputSchema.parse({"type": "object", "properties": {"not": {"type": "string"}, "pattern": {"type": "integer"}}})


@pytest.mark.parametrize("reference", ["#/$defs/none", "http://127.0.0.1/x", "#/x-hidden", "other", "#/$defs"])
def test_reference_to_what_is_no_part_of_the_schema_is_refused(reference: str) -> None:
    hidden = {"patternProperties": {"^(a+)+$": {}}}
    assert "outside itself" in refused({"$ref": reference, "$defs": {"a": {}}, "x-hidden": hidden})


def test_references_that_double_at_each_level_do_not_hang_the_check() -> None:
    levels = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(22)}
    schema = {"allOf": [{"$ref": "#/$defs/a0"}], "$defs": {**levels, "a22": {"type": "string"}}}
    start = time.monotonic()
    with pytest.raises(EngineError, match="more than 50000 steps"):
        OutputSchema.parse(schema).check('"x"')
    assert time.monotonic() - start < 10


def test_long_enums_are_refused() -> None:
    assert "2000 values" in refused({"enum": list(range(2000))})


def test_equal_items_are_found() -> None:
    schema = OutputSchema.parse({"type": "array", "uniqueItems": True})
    schema.check("[1, 2, [3]]")
    with pytest.raises(EngineError, match="twice"):
        schema.check('[{"a": 1, "b": 2}, {"b": 2, "a": 1}]')
