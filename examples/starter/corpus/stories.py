"""Short stories about a given subject: a hero, a place, a plot in four to seven beats, and an ending.

Each beat has several wordings, so that two stories with one plot still read differently. A hero keeps
name, pronoun and place through the whole story.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from .turn import Family, Turn, asked
from .words import ANIMALS, BOYS, COLOURS, GIRLS, PET_NAMES, THINGS, TOWN_PLACES, a, capital, table

_DATA = table("stories")
PEOPLE: dict[str, str] = _DATA["people"]
CREATURES: list[str] = _DATA["creatures"].split()
TRAITS: list[str] = _DATA["traits"].split()
FRIENDS: list[str] = _DATA["friends"].split()
PLACES: list[str] = _DATA["places"]
PLOTS: dict[str, list[list[str]]] = _DATA["plots"]


@dataclass(frozen=True)
class Hero:
    """Who the story is about: the noun that was asked for, a name, and a pronoun."""

    noun: str
    name: str
    he: str


def _hero(rng: random.Random) -> Hero:
    group = rng.random()
    if group < 0.6:
        noun, fixed = rng.choice(list(ANIMALS)), ""
    elif group < 0.85:
        noun = rng.choice(list(PEOPLE))
        fixed = PEOPLE[noun]
    else:
        noun, fixed = rng.choice(CREATURES), ""
    he = fixed or rng.choice(("he", "she"))
    own = BOYS if he == "he" else GIRLS
    name = rng.choice(own if noun in PEOPLE or rng.random() < 0.3 else PET_NAMES)
    return Hero(noun, name, he)


def _slots(rng: random.Random, hero: Hero, place: str, thing: str) -> dict[str, str]:
    male = hero.he == "he"
    friend = rng.choice([f for f in FRIENDS if f != hero.noun])
    colour, food = rng.choice(COLOURS), rng.choice(_DATA["foods"])
    words = {
        "N": hero.name,
        "s": hero.noun,
        "he": hero.he,
        "him": "him" if male else "her",
        "his": "his" if male else "her",
        "a_trait": a(rng.choice(TRAITS)),
        "place": place,
        "friend": friend,
        "a_friend": a(friend),
        "F": rng.choice([n for n in PET_NAMES if n != hero.name]),
        "c": colour,
        "a_c": a(colour),
        "o": thing,
        "a_o": a(thing),
        "a_co": a(f"{colour} {thing}"),
        "food": food,
        "food_bare": food.removeprefix("an ").removeprefix("a "),
        "weather": rng.choice(_DATA["weather"]),
        "skill": rng.choice(_DATA["skills"]),
    }
    for slot in ("he", "his", "place", "a_friend"):
        words[capital(slot)] = capital(words[slot])
    return words


def write(rng: random.Random, hero: Hero, place: str, thing: str, *, short: bool = False) -> str:
    """One story; `short` leaves out the morning and the ending."""
    slots = _slots(rng, hero, place, thing)
    beats = PLOTS[rng.choice(list(PLOTS))]
    parts = [
        rng.choice(_DATA["openings"]),
        "" if short else rng.choice(_DATA["mornings"]),
        *(rng.choice(beat) for beat in beats),
        "" if short else rng.choice(_DATA["endings"]),
    ]
    lines = [part.format(**slots) for part in parts if part]
    sentences = [capital(line) for line in lines]
    if len(sentences) > 6 and rng.random() < 0.4:
        cut = rng.randint(3, len(sentences) - 2)
        return " ".join(sentences[:cut]) + "\n\n" + " ".join(sentences[cut:])
    return " ".join(sentences)


def story(rng: random.Random) -> Turn:
    """A story about who was asked for, with the name and the place when they were given."""
    hero, place, thing = _hero(rng), rng.choice(PLACES), rng.choice(THINGS)
    subject, key, must = a(hero.noun), hero.noun, (hero.noun,)
    if rng.random() < 0.45:
        subject, key = f"{subject} {rng.choice(('named', 'called', 'named'))} {hero.name}", f"{key}/{hero.name}"
        must += (hero.name,)
    elif rng.random() < 0.15:
        subject = f"{hero.name} the {hero.noun}"
        key = f"{hero.noun}/{hero.name}"
        must += (hero.name,)
    if rng.random() < 0.35:
        subject, key = f"{subject} {place}", f"{key}/{place}"
        must += (place,)
    short = rng.random() < 0.3
    question = rng.choice(_DATA["requests"]).format(subject)
    if short:
        question = question.replace("a story", "a short story").replace("short short", "short")
    if "short" in question and not short:
        short = True
    if "/" not in key:
        key += question
    return Turn(
        "story",
        key,
        asked(rng, question, lower=False),
        write(rng, hero, place, thing, short=short),
        check="story",
        must=must,
    )


def any_story(rng: random.Random) -> Turn:
    """A story where the user leaves the subject open."""
    forms = (
        "Tell me a story.",
        "Write a story.",
        "Tell me a story",
        "Another story, please.",
        "I want to hear a story.",
        "Can you tell me a story?",
        "Do you know a story?",
        "Please tell me a bedtime story.",
        "Tell me another story.",
        "A story, please.",
        "Write me something.",
        "Tell a story to my child.",
    )
    form = rng.randrange(len(forms))
    text = write(rng, _hero(rng), rng.choice(PLACES), rng.choice(THINGS), short=rng.random() < 0.3)
    return Turn("any_story", f"{form}", asked(rng, forms[form]), text, check="story")


def thing_story(rng: random.Random) -> Turn:
    """A story about a thing: its hero is a child, and the thing is what happens to them."""
    thing = rng.choice(THINGS)
    colour = rng.choice(COLOURS) if rng.random() < 0.4 else ""
    he = rng.choice(("he", "she"))
    name = rng.choice(BOYS if he == "he" else GIRLS)
    wanted = f"{a(f'{colour} {thing}') if colour else a(thing)}"
    shade = colour or rng.choice(COLOURS)
    slots = {
        "N": name,
        "he": he,
        "He": capital(he),
        "his": "his" if he == "he" else "her",
        "him": "him" if he == "he" else "her",
        "o": thing,
        "c": shade,
        "place": rng.choice(TOWN_PLACES),
        "a_co": a(f"{shade} {thing}"),
        "child": "boy" if he == "he" else "girl",
        "P": rng.choice([n for n in GIRLS + BOYS if n != name]),
    }
    slots |= {"o_a": a(thing), "P_his": "his" if slots["P"] in BOYS else "her"}
    text = " ".join(rng.choice(beat).format(**slots) for beat in _DATA["thing_plot"])
    question = rng.choice(_DATA["requests"]).format(wanted)
    return Turn(
        "thing_story",
        f"{thing}/{colour}/{question}",
        asked(rng, question, lower=False),
        text,
        check="story",
        must=(wanted.split(" ", 1)[1],),
    )


def sentence(rng: random.Random) -> Turn:
    """One sentence about a given animal."""
    noun = rng.choice(list(ANIMALS))
    trait, place = rng.choice(TRAITS), rng.choice([p for p in PLACES if "moon" not in p and "world" not in p])
    text = capital(
        rng.choice(_DATA["sentences"]).format(
            t=trait,
            s=noun,
            v=rng.choice(_DATA["acts"].split()),
            p=place,
            p_cap=capital(place),
            a_s=a(noun),
            a_ts=a(f"{trait} {noun}"),
        )
    )
    text = text.replace("A " + trait, capital(a(trait))) if text.startswith("A ") else text
    question = rng.choice(
        (
            "Write a sentence about {}.",
            "Make a sentence about {}.",
            "Give me a sentence about {}.",
            "Say something about {}.",
            "Write one sentence with {} in it.",
            "Tell me something about {}.",
            "Can you write a sentence about {}?",
        )
    ).format(a(noun))
    return Turn("sentence", f"{noun}/{question}", asked(rng, question), text, check="sentence", must=(noun,))


FAMILIES: tuple[tuple[Family, float], ...] = ((story, 3.0), (any_story, 0.5), (thing_story, 0.8), (sentence, 1.0))
