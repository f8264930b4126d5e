"""Greetings, thanks, memory of what was just said, and honest answers to what a tiny model cannot know."""

from __future__ import annotations

import random

from .turn import Family, Turn, asked, bare, topics
from .words import ANIMALS, COLOURS, KINDS, NAMES, plural, table

_DATA = table("small_talk")
_TALK = topics(_DATA)
_UNKNOWN_ANSWER: str = _DATA["unknown_answer"]
_UNKNOWN: list[str] = _DATA["unknown_questions"]
_CANNOT_ANSWER: str = _DATA["cannot_answer"]
_CANNOT: list[str] = _DATA["cannot_questions"]
_FILL: dict[str, list[str]] = _DATA["fill"]


def talk(rng: random.Random) -> Turn:
    topic = rng.choice(_TALK)
    form = rng.randrange(len(topic.questions))
    text = topic.questions[form]
    text = rng.choice((text, text, text.lower(), text.rstrip("!.?")))
    return Turn("small_talk", f"{topic.name}/{bare(text)}", text, topic.answer)


def _filled(rng: random.Random, forms: list[str]) -> str:
    return rng.choice(forms).format(**{slot: rng.choice(words) for slot, words in _FILL.items()})


def unknown(rng: random.Random) -> Turn:
    text = _filled(rng, _UNKNOWN)
    return Turn("unknown", text, asked(rng, text), _UNKNOWN_ANSWER)


def cannot(rng: random.Random) -> Turn:
    text = _filled(rng, _CANNOT)
    return Turn("cannot", text, asked(rng, text), _CANNOT_ANSWER)


def greet(rng: random.Random) -> Turn:
    name = rng.choice(NAMES)
    form = rng.choice(
        (
            "Hello, my name is {}.",
            "Hi, I am {}.",
            "My name is {}.",
            "I am {}. Who are you?",
            "Hi! {} here.",
            "You can call me {}.",
            "Good morning, I am {}.",
        )
    )
    answer = (
        f"Hello, {name}! I am the starter model of Pantry." if "Who" in form else f"Hello, {name}! How can I help you?"
    )
    return Turn("greet", form.format(name), form.format(name), answer)


def remember(rng: random.Random) -> tuple[Turn, Turn]:
    """Something the user says about themselves, and the question about it later in the conversation."""
    kind = rng.randrange(4)
    if kind == 0:
        said = greet(rng)
        while "Who" in said.user:
            said = greet(rng)
        name = said.answer.split("!")[0].removeprefix("Hello, ")
        return said, Turn(
            "remember",
            f"name/{name}",
            asked(
                rng,
                rng.choice(("What is my name?", "Who am I?", "Do you know my name?", "What am I called?")),
                lower=False,
            ),
            f"Your name is {name}.",
        )
    topic, words = (
        ("animal", list(ANIMALS)),
        ("colour", COLOURS),
        ("fruit", [t for t, k in KINDS.items() if k == "fruit"]),
    )[kind - 1]
    word = rng.choice(words)
    shown = word if topic == "colour" else f"the {word}"
    text = rng.choice(
        (
            f"My favourite {topic} is {shown}.",
            f"The {topic} I like most is {shown}.",
            f"I like {shown} best of all {plural(topic)}.",
        )
    )
    said = Turn("tell", f"{topic}/{word}", text, f"That is good to know. Your favourite {topic} is {shown}.")
    question = rng.choice(
        (f"What is my favourite {topic}?", f"Which {topic} do I like most?", f"Do you know my favourite {topic}?")
    )
    return said, Turn(
        "remember", f"{topic}/{word}", asked(rng, question, lower=False), f"Your favourite {topic} is {shown}."
    )


def tell(rng: random.Random) -> Turn:
    return remember(rng)[0]


FAMILIES: tuple[tuple[Family, float], ...] = ((talk, 2.0), (unknown, 2.5), (cannot, 1.2), (greet, 0.7), (tell, 0.5))
