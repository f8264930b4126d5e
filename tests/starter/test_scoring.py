"""Scores: a wrong answer is not right."""

from __future__ import annotations

import pytest

from examples.starter.corpus.turn import Turn
from examples.starter.scoring import is_right

TALE = "There was a fox named Pip. He lived by the sea. He was sad. Then he was glad."


@pytest.mark.parametrize(
    ("answer", "right"),
    [(TALE, True), (TALE[:-1], False), (TALE.replace("fox", "dog"), False), (TALE.replace("Pip", "Tom"), False),
     (TALE.replace("He was", "She was"), False), ("A fox named Pip. The end.", False)],
)  # fmt: skip
def test_story_keeps_subject_name_and_pronoun(answer: str, right: bool) -> None:
    assert is_right(Turn("story", "", "", "", check="story", must=("fox", "Pip")), answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [("Three fruits are pear, plum and apple.", True), ("Three fruits are pear, pear and apple.", False),
     ("Three fruits are pear, dog and apple.", False), ("Three fruits are pear and apple.", False),
     ("I do not know.", False)],
)  # fmt: skip
def test_named_things_are_different_enough_and_of_the_kind(answer: str, right: bool) -> None:
    assert is_right(Turn("name_some", "", "", "", check="name_some", must=("fruit", "3")), answer) is right


def test_exact_answers_are_compared_word_for_word() -> None:
    turn = Turn("opposite", "", "", "The opposite of hot is cold.")
    assert is_right(turn, "The opposite of hot is cold.\n")
    assert not is_right(turn, "The opposite of hot is cool.")


def test_one_sentence_with_the_word() -> None:
    turn = Turn("sentence", "", "", "", check="sentence", must=("owl",))
    assert is_right(turn, "The shy owl waits in a garden.")
    assert not is_right(turn, "The shy owl waits. It is late.")
    assert not is_right(turn, "The shy cat waits in a garden.")
