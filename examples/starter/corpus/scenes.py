"""Question families about a short scene that the question itself tells."""

from __future__ import annotations

import random

from .turn import Family, Turn, asked
from .words import COLOURS, CONTAINERS, NAMES, THINGS, TOWN_PLACES, a


def who_has(rng: random.Random) -> Turn:
    n = rng.choice((2, 2, 3))
    people, things, colours = rng.sample(NAMES, n), rng.sample(THINGS, n), rng.sample(COLOURS, n)
    scene = " ".join(f"{p} has {a(f'{c} {t}')}." for p, c, t in zip(people, colours, things, strict=True))
    at = rng.randrange(n)
    person, thing, shade = people[at], things[at], colours[at]
    kind, question, answer = rng.choice(
        (
            ("who", f"Who has the {thing}?", f"{person} has the {thing}."),
            ("what", f"What does {person} have?", f"{person} has {a(f'{shade} {thing}')}."),
            ("shade", f"What colour is the {thing}?", f"The {thing} is {shade}."),
            ("whose", f"Whose {thing} is {shade}?", f"{person} has the {shade} {thing}."),
        )
    )
    text = f"{question} {scene}" if rng.random() < 0.15 else f"{scene} {question}"
    return Turn("who_has", kind + "/".join((*people, *things)), asked(rng, text, lower=False), answer)


def where_is(rng: random.Random) -> Turn:
    n = rng.choice((2, 2, 3))
    people, things, boxes = rng.sample(NAMES, n), rng.sample(THINGS, n), rng.sample(CONTAINERS, n)
    things = [t if t not in boxes else "stone" for t in things]
    scene = " ".join(f"{p} put the {t} in the {b}." for p, t, b in zip(people, things, boxes, strict=True))
    at = rng.randrange(n)
    kind, question, answer = rng.choice(
        (
            ("where", f"Where is the {things[at]}?", f"The {things[at]} is in the {boxes[at]}."),
            ("what", f"What is in the {boxes[at]}?", f"The {things[at]} is in the {boxes[at]}."),
            (
                "who",
                f"Who put the {things[at]} in the {boxes[at]}?",
                f"{people[at]} put the {things[at]} in the {boxes[at]}.",
            ),
        )
    )
    return Turn("where_is", kind + "/".join((*people, *things)), asked(rng, f"{scene} {question}", lower=False), answer)


def who_went(rng: random.Random) -> Turn:
    n = rng.choice((2, 2, 3))
    people, places = rng.sample(NAMES, n), rng.sample(TOWN_PLACES, n)
    scene = " ".join(f"{p} went to the {q}." for p, q in zip(people, places, strict=True))
    at = rng.randrange(n)
    kind, question, answer = rng.choice(
        (
            ("who", f"Who went to the {places[at]}?", f"{people[at]} went to the {places[at]}."),
            ("where", f"Where did {people[at]} go?", f"{people[at]} went to the {places[at]}."),
            ("where", f"Where is {people[at]}?", f"{people[at]} is at the {places[at]}."),
        )
    )
    return Turn("who_went", kind + "/".join((*people, *places)), asked(rng, f"{scene} {question}", lower=False), answer)


FAMILIES: tuple[tuple[Family, float], ...] = (
    (who_has, 5.0),
    (where_is, 4.0),
    (who_went, 3.5),
)
