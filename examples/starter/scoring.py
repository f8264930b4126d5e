"""When an answer counts as right: word for word, or by a rule where many answers are right."""

from __future__ import annotations

import re
from collections.abc import Callable

from .corpus.turn import Turn
from .corpus.words import KINDS

_HE = re.compile(r"\b(he|him|his)\b", re.IGNORECASE)
_SHE = re.compile(r"\b(she|her|hers)\b", re.IGNORECASE)
_ENDS = (".", "!", "?", '."', '!"', '?"')
_FINDER_SENTENCE = re.compile(r"something \w+ in (his|her) hand")


def is_right(turn: Turn, answer: str) -> bool:
    return _RULES[turn.check](turn, answer.strip())


def _exact(turn: Turn, answer: str) -> bool:
    return answer == turn.answer


def _story(turn: Turn, answer: str) -> bool:
    """Four sentences or more, whole to the end, with what was asked for in them, and one pronoun for the hero."""
    prose = _FINDER_SENTENCE.sub("", answer)
    one_hero = not (_HE.search(prose) and _SHE.search(prose))
    told = all(word.lower() in answer.lower() for word in turn.must)
    return told and one_hero and answer.endswith(_ENDS) and len(re.findall(r"[.!?]", answer)) >= 4


def _sentence(turn: Turn, answer: str) -> bool:
    """One whole sentence with the word asked for."""
    return all(word in answer.lower() for word in turn.must) and answer.endswith(".") and answer.count(".") == 1


def _name_some(turn: Turn, answer: str) -> bool:
    """As many different things as were asked for, all of the kind."""
    kind, number = turn.must
    _, _, named = answer.rstrip(".").rpartition(" are ")
    things = re.split(r", | and ", named)
    return len(things) == len(set(things)) == int(number) and all(KINDS.get(thing) == kind for thing in things)


_RULES: dict[str, Callable[[Turn, str], bool]] = {
    "exact": _exact,
    "story": _story,
    "sentence": _sentence,
    "name_some": _name_some,
}
