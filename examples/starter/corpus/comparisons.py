"""Question families about size, opposites and what comes next."""

from __future__ import annotations

import random

from .turn import Family, Turn, asked
from .words import DAYS, LETTERS, MONTHS, OPPOSITES, SIZES, UNIQUE_THINGS, a, capital


def _the(noun: str) -> str:
    return f"the {noun}" if noun in UNIQUE_THINGS else a(noun)


def size(rng: random.Random) -> Turn:
    low, high = sorted(rng.sample(range(len(SIZES)), 2))
    small, big = rng.choice(SIZES[low]), rng.choice(SIZES[high])
    one, two = rng.sample((small, big), 2)
    word, winner, loser = rng.choice((("bigger", big, small), ("larger", big, small), ("smaller", small, big)))
    question = rng.choice(
        (
            f"Which is {word}, {_the(one)} or {_the(two)}?",
            f"What is {word}: {_the(one)} or {_the(two)}?",
            f"Is {_the(one)} or {_the(two)} {word}?",
            f"{capital(_the(one))} or {_the(two)}: which one is {word}?",
            f"Which of the two is {word}, {_the(one)} or {_the(two)}?",
        )
    )
    return Turn(
        "size", f"{small}/{big}", asked(rng, question), f"{capital(_the(winner))} is {word} than {_the(loser)}."
    )


def size_check(rng: random.Random) -> Turn:
    low, high = sorted(rng.sample(range(len(SIZES)), 2))
    small, big = rng.choice(SIZES[low]), rng.choice(SIZES[high])
    one, two = rng.sample((small, big), 2)
    word, holds = rng.choice((("bigger", one == big), ("smaller", one == small)))
    question = rng.choice(
        (
            f"Is {_the(one)} {word} than {_the(two)}?",
            f"Would you say {_the(one)} is {word} than {_the(two)}?",
            f"True or false: {_the(one)} is {word} than {_the(two)}?",
        )
    )
    other = "smaller" if word == "bigger" else "bigger"
    answer = f"{capital(_the(one))} is {word if holds else other} than {_the(two)}, so {'yes' if holds else 'no'}."
    return Turn("size_check", f"{small}/{big}", asked(rng, question), answer)


def opposite(rng: random.Random) -> Turn:
    pair = rng.choice(OPPOSITES)
    word, other = rng.sample(pair, 2) if "heavy" not in pair and "young" not in pair else pair
    forms = (
        f"What is the opposite of {word}?",
        f"Give me the opposite of {word}.",
        f"What is the opposite word for {word}?",
        f"Opposite of {word}?",
        f"Which word means the opposite of {word}?",
        f"Name the opposite of {word}.",
        f'What is the opposite of "{word}"?',
        f"Say the opposite of {word}.",
    )
    form = rng.randrange(len(forms))
    return Turn("opposite", f"{word}/{form}", asked(rng, forms[form]), f"The opposite of {word} is {other}.")


def order(rng: random.Random) -> Turn:
    kind = rng.choices(range(4), (1, 2, 3, 4))[0]
    if kind == 0:
        items, what, wraps = DAYS, "day", True
    elif kind == 1:
        items, what, wraps = MONTHS, "month", True
    elif kind == 2:
        items, what, wraps = LETTERS, "letter", False
    else:
        items, what, wraps = [str(n) for n in range(41)], "number", False
    after = rng.random() < 0.6
    at = rng.randrange(0 if wraps or after else 1, len(items) - (0 if wraps or not after else 1))
    item, result = items[at], items[(at + (1 if after else -1)) % len(items)]
    word = "after" if after else "before"
    forms = (
        f"What comes {word} {item}?",
        f"Which {what} comes {word} {item}?",
        f"What {what} is {word} {item}?",
        f"Name the {what} that comes {word} {item}.",
        f"Which {what} is right {word} {item}?",
        f"{capital(what)} {word} {item}?",
    )
    form = rng.randrange(len(forms))
    answer = f"{capital(word)} {item} comes {result}."
    return Turn("order", f"{item}/{word}/{form}", asked(rng, forms[form], lower=kind != 2), answer)


FAMILIES: tuple[tuple[Family, float], ...] = (
    (size, 1.8),
    (size_check, 2.0),
    (opposite, 1.2),
    (order, 1.6),
)
