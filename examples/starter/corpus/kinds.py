"""Question families about what kind of thing something is."""

from __future__ import annotations

import random

from .turn import Family, Turn, asked
from .words import KIND_NAMES, KINDS, a, capital, listed, plural


def _of_kinds(rng: random.Random, kinds: list[str]) -> list[str]:
    return [rng.choice([thing for thing, k in KINDS.items() if k == kind]) for kind in kinds]


def kind_of(rng: random.Random) -> Turn:
    thing = rng.choice(list(KINDS))
    kind = KINDS[thing]
    forms = (
        f"What is {a(thing)}?",
        f"What kind of thing is {a(thing)}?",
        f"{capital(a(thing))} is what kind of thing?",
        f"What sort of thing is {a(thing)}?",
        f"Which group does {a(thing)} belong to?",
        f"What do we call {a(thing)}?",
    )
    form = rng.randrange(len(forms))
    return Turn("kind", f"{thing}/{form}", asked(rng, forms[form]), f"{capital(a(thing))} is {a(kind)}.")


def kind_check(rng: random.Random) -> Turn:
    thing = rng.choice(list(KINDS))
    kind = KINDS[thing]
    guess = kind if rng.random() < 0.5 else rng.choice([k for k in KIND_NAMES if k not in (kind, "animal")])
    question = rng.choice(
        (
            f"Is {a(thing)} {a(guess)}?",
            f"Is it true that {a(thing)} is {a(guess)}?",
            f"True or false: {a(thing)} is {a(guess)}?",
            f"Would you call {a(thing)} {a(guess)}?",
        )
    )
    verdict = "so yes" if guess == kind else f"so it is not {a(guess)}"
    answer = f"{capital(a(thing))} is {a(kind)}, {verdict}."
    return Turn("kind_check", f"{thing}/{guess}", asked(rng, question), answer)


def which_one(rng: random.Random) -> Turn:
    kinds = rng.sample(KIND_NAMES, 3)
    if {"animal", "bird"} <= set(kinds):
        kinds = ["tool", "fruit", "bird"]
    things = _of_kinds(rng, kinds)
    at = rng.randrange(3)
    choice = listed([a(t) for t in things], "or")
    question = rng.choice(
        (
            f"Which of these is {a(kinds[at])}: {choice}?",
            f"Which one is {a(kinds[at])}: {choice}?",
            f"Pick the {kinds[at]}: {listed(things)}.",
            f"{capital(choice)}: which of them is {a(kinds[at])}?",
        )
    )
    return Turn(
        "which_one",
        "/".join(sorted(things)) + kinds[at],
        asked(rng, question),
        f"{capital(a(things[at]))} is {a(kinds[at])}.",
    )


def odd_one(rng: random.Random) -> Turn:
    common, odd = rng.sample([kind for kind in KIND_NAMES if kind != "bird"], 2)
    same = rng.sample([thing for thing, k in KINDS.items() if k == common], 3)
    stranger = _of_kinds(rng, [odd])[0]
    things = [*same, stranger]
    rng.shuffle(things)
    question = rng.choice(
        (
            f"Which one does not belong: {listed(things)}?",
            f"Which is the odd one out: {listed(things, 'or')}?",
            f"Find the word that does not fit: {', '.join(things)}.",
            f"Odd one out: {', '.join(things)}?",
        )
    )
    answer = f"The odd one out is {stranger}, because it is {a(odd)} and the others are {plural(common)}."
    return Turn("odd_one", "/".join(sorted(things)), asked(rng, question), answer)


FAMILIES: tuple[tuple[Family, float], ...] = (
    (kind_of, 0.8),
    (kind_check, 2.0),
    (which_one, 2.0),
    (odd_one, 2.0),
)
