"""Server-sent events from an engine: any cutting of the bytes gives the same blocks."""

import asyncio
import itertools

import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from pantry.service.generation import sse

EVENTS = [{"text": "he"}, {"text": 'llo "usage": \n\n'}, {"usage": {"prompt_tokens": 4}}]
STREAM = b"".join(sse.encode(each) for each in EVENTS) + b": keep-alive\n\n" + sse.DONE


def cut(content: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(content) + 1) for place in places), len(content)]
    return [content[a:b] for a, b in itertools.pairwise(edges) if a != b]


async def blocks_of(parts: list[bytes]) -> list[bytes]:
    loop = asyncio.get_running_loop()
    reader = StreamReader(BaseProtocol(loop), 2**16, loop=loop)
    for part in parts:
        reader.feed_data(part)
    reader.feed_eof()
    return [block async for block in sse.blocks(reader)]


@given(st.lists(st.integers(0, 10**6), max_size=12))
def test_blocks_hold_whole_events_however_the_bytes_come(places: list[int]) -> None:
    found = asyncio.run(blocks_of(cut(STREAM, places)))
    assert b"".join(found) == STREAM
    assert all(block.endswith(sse.END) for block in found)


def test_endless_event_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT", 100)
    with pytest.raises(ValueError, match="more than 100 bytes"):
        asyncio.run(blocks_of([b"data: " + b"x" * 200]))


def test_what_an_event_holds_can_be_sent_on() -> None:
    event = b'data: {"half": "a\\ud83d", "whole": "\\uD83D\\uDE00", "no number": [NaN, -Infinity, 1]}\n\n'
    found = sse.parse(event)
    assert found == {"half": "a\ufffd", "whole": "\U0001f600", "no number": [None, None, 1]}
    assert sse.parse(sse.encode(found)) == found
