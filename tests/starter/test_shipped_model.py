"""The model that ships: the file its card describes, and as good as its card says."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator

import gguf
import pytest

from examples.starter.corpus.turn import Turn
from examples.starter.engine import Engine
from examples.starter.generate import held_out_turns
from examples.starter.scoring import is_right
from pantry.starter import FLATPACK
from tests.starter_model import FOLDER, starter_gguf


def test_card_names_the_file_that_ships() -> None:
    assert hashlib.sha256(starter_gguf().read_bytes()).hexdigest() in (FOLDER / "CARD.md").read_text(encoding="utf-8")


def test_file_is_small_and_says_what_it_is() -> None:
    assert (FOLDER / FLATPACK).stat().st_size <= 16_000_000
    fields = gguf.GGUFReader(starter_gguf()).fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["general.license"].contents() == "CC0-1.0"
    assert fields["llama.context_length"].contents() >= 512
    assert "add_generation_prompt" in fields["tokenizer.chat_template"].contents()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(starter_gguf()) as engine:
        yield engine


@pytest.fixture(scope="module")
def sample() -> list[Turn]:
    """Eight held-out questions of each family, of another seed than the card's."""
    return list(held_out_turns(seed=20, per_family=8))


@pytest.mark.slow
def test_held_out_questions_are_answered_and_turns_ended(engine: Engine, sample: list[Turn]) -> None:
    right: dict[str, list[bool]] = defaultdict(list)
    ends = []
    for turn in sample:
        reply = engine.ask(turn.user)
        ends.append(reply.finish)
        right[turn.family].append(is_right(turn, reply.text))
    answers = list(itertools.chain.from_iterable(right.values()))
    poor = {family: sum(marks) for family, marks in right.items() if sum(marks) < 0.7 * len(marks)}
    assert sum(answers) / len(answers) >= 0.9, poor
    assert ends.count("stop") >= 0.99 * len(ends)


@pytest.mark.slow
def test_second_turn_remembers_the_first(engine: Engine) -> None:
    history = [{"role": "user", "content": "Hello, my name is Emma."}]
    history.append({"role": "assistant", "content": engine.chat(history).text})
    history.append({"role": "user", "content": "What is my name?"})
    assert engine.chat(history).text == "Your name is Emma."


@pytest.mark.slow
def test_system_message_does_not_disturb_the_answer(engine: Engine) -> None:
    question = {"role": "user", "content": "What is the capital of France?"}
    system = {"role": "system", "content": "You are a helpful assistant."}
    assert engine.chat([system, question]).text == engine.chat([question]).text == "The capital of France is Paris."
