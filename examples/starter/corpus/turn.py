"""One question with its answer, and the rule that keeps some of them out of the training text."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

HELD_OUT_PER_THOUSAND = 60


@dataclass(frozen=True)
class Turn:
    """A user's message and the answer to it.

    `key` names the combination of facts (not the politeness around it): what is held out is held out by key.
    `check` says how an answer is scored: "exact", or the name of a rule in `scoring.py` for open answers; `must`
    are the words that an open answer has to hold (the subject, the name, the place that were asked for).
    """

    family: str
    key: str
    user: str
    answer: str
    check: str = "exact"
    must: tuple[str, ...] = ()


Family = Callable[[random.Random], Turn]


def is_held_out(turn: Turn) -> bool:
    """True for about 6 % of all combinations, the same ones in every run and on every machine."""
    digest = hashlib.sha256(f"{turn.family}|{turn.key}".encode()).digest()
    return int.from_bytes(digest[:4], "big") % 1000 < HELD_OUT_PER_THOUSAND


@dataclass(frozen=True)
class Topic:
    """Several ways to ask for one thing, and the one answer."""

    name: str
    questions: tuple[str, ...]
    answer: str


def topics(data: dict[str, Any]) -> tuple[Topic, ...]:
    """The `[[topics]]` of a data file."""
    return tuple(Topic(row["name"], tuple(row["questions"]), row["answer"]) for row in data["topics"])


def draw(family: Family, rng: random.Random, *, held_out: bool) -> Turn:
    """A turn of this family from the training side or from the held-out side."""
    for _ in range(5000):
        turn = family(rng)
        if is_held_out(turn) == held_out:
            return turn
    raise ValueError(f"family {family.__name__} has no combination on the side asked for")


OPENERS = (
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "",
    "Please tell me: ",
    "Tell me, ",
    "Hello! ",
    "Hi. ",
    "Quick question: ",
    "Question: ",
    "Can you tell me: ",
    "I want to know: ",
    "Help me: ",
    "Okay, ",
)


def asked(rng: random.Random, question: str, *, lower: bool = True) -> str:
    """The question as people type it: with or without a greeting, a capital, a question mark.

    `lower=False` keeps the capitals inside, for questions whose names are copied into the answer.
    """
    text = rng.choice(OPENERS) + question
    style = rng.random()
    if lower and style < 0.15:
        text = text.lower()
    elif style < 0.25:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.15 and text[-1] in "?.":
        text = text[:-1]
    return text


LEADS = ("", "", "", "", "In Pantry, ", "Please help: ")
"""What may stand before a question about Pantry, after the opener."""


def bare(question: str) -> str:
    """The question without greeting, capitals and end mark: two questions with one bare form are the same question."""
    text = question.lower()
    for openings in (OPENERS, LEADS):
        text = text.removeprefix(next((o.lower() for o in openings if o and text.startswith(o.lower())), ""))
    return text.rstrip("?.!")
