"""Question families that count: small sums, order of numbers, first and last of a list."""

from __future__ import annotations

import random

from .turn import Family, Turn, asked
from .words import ANIMALS, KINDS, REGULAR_NOUNS, THINGS, listed

PLAIN_WORDS = [w for w in dict.fromkeys([*KINDS, *ANIMALS, *THINGS, *REGULAR_NOUNS]) if w.isalpha()]


def some_words(rng: random.Random, low: int, high: int) -> list[str]:
    return rng.sample(PLAIN_WORDS, rng.randint(low, high))


_TAUGHT = 3
"""Sums are learned by heart, so all of them are taught, in the wordings from this one on. In the wordings before it,
some are held out."""


def addition(rng: random.Random) -> Turn:
    x, y = rng.randrange(0, 11), rng.randrange(0, 11)
    forms = (
        f"What is {x} plus {y}?",
        f"How much is {x} + {y}?",
        f"{x} + {y} = ?",
        f"Add {x} and {y}.",
        f"What is {x} + {y}?",
        f"What do you get if you add {x} and {y}?",
        f"What is the sum of {x} and {y}?",
        f"How much is {x} plus {y}?",
        f"{x} + {y}",
    )
    form = rng.randrange(len(forms))
    key = f"{min(x, y)}+{max(x, y)}" if form < _TAUGHT else "taught"
    return Turn("addition", key, asked(rng, forms[form]), f"The sum of {x} and {y} is {x + y}.")


def subtraction(rng: random.Random) -> Turn:
    x, y = rng.randrange(0, 11), rng.randrange(0, 11)
    total = x + y
    forms = (
        f"What is {total} minus {y}?",
        f"How much is {total} - {y}?",
        f"{total} - {y} = ?",
        f"Take {y} away from {total}.",
        f"What is {total} - {y}?",
        f"What is left if you take {y} from {total}?",
        f"How much is {total} minus {y}?",
        f"{total} - {y}",
    )
    form = rng.randrange(len(forms))
    key = f"{total}-{y}" if form < _TAUGHT else "taught"
    return Turn("subtraction", key, asked(rng, forms[form]), f"The result of {total} minus {y} is {x}.")


def larger_number(rng: random.Random) -> Turn:
    x, y = rng.sample(range(41), 2)
    word, result = rng.choice((("larger", max(x, y)), ("bigger", max(x, y)), ("smaller", min(x, y))))
    question = rng.choice(
        (
            f"Which number is {word}, {x} or {y}?",
            f"Which is {word}: {x} or {y}?",
            f"{x} or {y}: which is {word}?",
            f"What is the {word} number, {x} or {y}?",
        )
    )
    return Turn("larger_number", f"{min(x, y)}/{max(x, y)}", asked(rng, question), f"The {word} number is {result}.")


def count(rng: random.Random) -> Turn:
    words = some_words(rng, 1, 6)
    text = ", ".join(words)
    question = rng.choice(
        (
            f"How many words are in this list: {text}?",
            f"Count these words: {text}.",
            f"How many things are here: {text}?",
            f"Count the things in this list: {text}.",
        )
    )
    noun = "word" if "word" in question else "thing"
    answer = f"There is 1 {noun} in the list." if len(words) == 1 else f"There are {len(words)} {noun}s in the list."
    return Turn("count", "/".join(words), asked(rng, question), answer)


def place_in_list(rng: random.Random) -> Turn:
    words = some_words(rng, 3, 5)
    spot = rng.choice(("first", "last", "second"))
    word = {"first": words[0], "last": words[-1], "second": words[1]}[spot]
    text = rng.choice((", ".join(words), listed(words)))
    question = rng.choice(
        (
            f"What is the {spot} word in this list: {text}?",
            f"Which word is {spot}: {text}?",
            f"Give me the {spot} word: {text}.",
            f"Here is a list: {text}. Which one is {spot}?",
        )
    )
    return Turn("place_in_list", spot + "/".join(words), asked(rng, question), f"The {spot} word is {word}.")


def sort_numbers(rng: random.Random) -> Turn:
    numbers = rng.sample(range(1, 21), 3)
    text = ", ".join(map(str, numbers))
    question = rng.choice(
        (
            f"Put these numbers in order: {text}.",
            f"Sort these numbers: {text}.",
            f"Sort from small to large: {text}.",
            f"Order these numbers from the smallest to the largest: {text}.",
        )
    )
    return Turn(
        "sort_numbers",
        "/".join(map(str, sorted(numbers))),
        asked(rng, question),
        f"In order: {', '.join(map(str, sorted(numbers)))}.",
    )


def reverse_list(rng: random.Random) -> Turn:
    words = some_words(rng, 2, 3)
    question = rng.choice(
        (
            f"Say these words backwards: {', '.join(words)}.",
            f"Reverse this list: {', '.join(words)}.",
            f"Turn this list around: {', '.join(words)}.",
            f"Write this list in reverse order: {', '.join(words)}.",
        )
    )
    return Turn(
        "reverse_list", "/".join(words), asked(rng, question), f"The other way round: {', '.join(reversed(words))}."
    )


FAMILIES: tuple[tuple[Family, float], ...] = (
    (addition, 2.5),
    (subtraction, 2.5),
    (larger_number, 1.5),
    (count, 0.8),
    (place_in_list, 0.8),
    (sort_numbers, 1.0),
    (reverse_list, 0.8),
)
