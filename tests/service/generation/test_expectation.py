"""Answers held to what was asked for."""

import pytest

from pantry.core.errors import EngineError
from pantry.service.generation.events import Event
from pantry.service.generation.expectation import Expectation
from pantry.service.generation.output_schema import OutputSchema
from pantry.service.generation.request import Conversation, GenerationRequest, Sampling
from tests.service.generation.recorded import SCRIPTS, Script, conversation, events_of


def held(request: GenerationRequest, script: Script) -> list[Event]:
    expectation, events = Expectation(request), events_of(script, request)
    for event in events:
        expectation.feed(event)
    return events


def must_call() -> GenerationRequest:
    return GenerationRequest(Conversation([], tool_choice="required"), Sampling())


@pytest.mark.parametrize("name", SCRIPTS)
def test_nothing_is_demanded_of_a_plain_request(name: str) -> None:
    assert held(conversation(), SCRIPTS[name])


def test_call_that_was_demanded_must_come() -> None:
    assert held(must_call(), SCRIPTS["one call"])
    with pytest.raises(EngineError, match="did not call a tool"):
        held(must_call(), SCRIPTS["text"])


def test_answer_that_was_cut_off_is_not_held_to_anything() -> None:
    assert held(must_call(), SCRIPTS["cut off"])


def test_answer_must_fit_the_schema() -> None:
    request = conversation(schema=OutputSchema.parse({"type": "integer"}))
    assert held(request, [{"text": "7"}])
    with pytest.raises(EngineError, match="not JSON"):
        held(request, [{"text": "seven"}])
