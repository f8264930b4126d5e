"""Question families about plain facts: colours, animals, plurals, capitals, jobs, uses."""

from __future__ import annotations

import random

from .turn import Family, Turn, asked, topics
from .words import (
    ANIMALS,
    CAPITALS,
    COLOURS_OF,
    ES_NOUNS,
    IES_NOUNS,
    IRREGULAR_PLURALS,
    JOBS,
    NUMBER_WORDS,
    REGULAR_NOUNS,
    USES,
    a,
    capital,
    plural,
    table,
)

_FACTS = topics(table("facts"))


def colour(rng: random.Random) -> Turn:
    thing = rng.choice(list(COLOURS_OF))
    forms = (
        f"What colour is {thing}?",
        f"What color is {thing}?",
        f"Which colour is {thing}?",
        f"What is the colour of {thing}?",
        f"Tell me the colour of {thing}.",
        f"{capital(thing)} is what colour?",
        f"Name the colour of {thing}.",
    )
    form = rng.randrange(len(forms))
    return Turn("colour", f"{thing}/{form}", asked(rng, forms[form]), f"{capital(thing)} is {COLOURS_OF[thing]}.")


def animal(rng: random.Random) -> Turn:
    name = rng.choice(list(ANIMALS))
    home, sound, young, food, legs = ANIMALS[name]
    topic = rng.randrange(5)
    beast, beasts = a(name), plural(name)
    forms, answer = (
        (
            (
                f"Where does {beast} live?",
                f"Where do {beasts} live?",
                f"What is the home of {beast}?",
                f"Where would I find {beast}?",
            ),
            f"{capital(beast)} lives {home}.",
        ),
        (
            (
                f"What sound does {beast} make?",
                f"What noise does {beast} make?",
                f"How does {beast} sound?",
                f"What do {beasts} sound like?",
            ),
            f"{capital(beast)} {sound}.",
        ),
        (
            (
                f"What is a baby {name} called?",
                f"What do you call a young {name}?",
                f"What is the name for a baby {name}?",
                f"How do we call the young of {beast}?",
            ),
            f"A baby {name} is called {a(young)}.",
        ),
        (
            (
                f"What does {beast} eat?",
                f"What do {beasts} eat?",
                f"What is the food of {beast}?",
                f"What do you feed {beast}?",
            ),
            f"{capital(beast)} eats {food}.",
        ),
        (
            (
                f"How many legs does {beast} have?",
                f"How many legs do {beasts} have?",
                f"Count the legs of {beast}.",
                f"What is the number of legs of {beast}?",
            ),
            f"{capital(beast)} has {legs or 'no'} legs.",
        ),
    )[topic]
    form = rng.randrange(len(forms))
    return Turn("animal", f"{name}/{topic}/{form}", asked(rng, forms[form]), answer)


def plural_of(rng: random.Random) -> Turn:
    group = rng.choice((list(IRREGULAR_PLURALS), REGULAR_NOUNS, ES_NOUNS, IES_NOUNS))
    noun = rng.choice(group)
    forms = (
        f"What is the plural of {noun}?",
        f"Give me the plural of {noun}.",
        f"One {noun}, two ...?",
        f"Plural of {noun}?",
        f"How do you say more than one {noun}?",
        f'What is the plural of the word "{noun}"?',
        f"Write the plural of {noun}.",
    )
    form = rng.randrange(len(forms))
    return Turn("plural", f"{noun}/{form}", asked(rng, forms[form]), f"The plural of {noun} is {plural(noun)}.")


def capital_city(rng: random.Random) -> Turn:
    country, city = rng.choice(CAPITALS)
    forms = (
        f"What is the capital of {country}?",
        f"Which city is the capital of {country}?",
        f"Capital of {country}?",
        f"Name the capital of {country}.",
        f"What is the capital city of {country}?",
        f"Do you know the capital of {country}?",
        f"{country}: what is its capital?",
    )
    form = rng.randrange(len(forms))
    return Turn("capital", f"{country}/{form}", asked(rng, forms[form]), f"The capital of {country} is {city}.")


def country_of(rng: random.Random) -> Turn:
    country, city = rng.choice(CAPITALS)
    forms = (
        f"In which country is {city}?",
        f"Where is {city}?",
        f"{city} is the capital of which country?",
        f"What country is {city} in?",
        f"Which country has {city} as its capital?",
    )
    form = rng.randrange(len(forms))
    return Turn("country", f"{city}/{form}", asked(rng, forms[form]), f"The city of {city} is in {country}.")


def job(rng: random.Random) -> Turn:
    name = rng.choice(list(JOBS))
    if rng.random() < 0.6:
        forms = (
            f"What does {a(name)} do?",
            f"What is the job of {a(name)}?",
            f"What is {a(name)}?",
            f"Tell me what {a(name)} does.",
            f"What work does {a(name)} do?",
        )
        form = rng.randrange(len(forms))
        return Turn("job", f"{name}/{form}", asked(rng, forms[form]), f"{capital(a(name))} {JOBS[name]}.")
    forms = (
        f"Who {JOBS[name]}?",
        f"What do we call a person who {JOBS[name]}?",
        f"What is the name of the job of someone who {JOBS[name]}?",
        f"Which person {JOBS[name]}?",
    )
    form = rng.randrange(len(forms))
    return Turn("job", f"{name}/who{form}", asked(rng, forms[form]), f"{capital(a(name))} {JOBS[name]}.")


def use(rng: random.Random) -> Turn:
    thing = rng.choice(list(USES))
    thing_a = thing if thing in ("scissors", "soap") else a(thing)
    verb, does = ("are", "do") if thing == "scissors" else ("is", "does")
    forms = (
        f"What {verb} {thing_a} used for?",
        f"What do you use {thing_a} for?",
        f"What can I do with {thing_a}?",
        f"Why do people need {thing_a}?",
        f"What {verb} {thing_a} for?",
        f"What {does} {thing_a} help you to do?",
    )
    form = rng.randrange(len(forms))
    return Turn("use", f"{thing}/{form}", asked(rng, forms[form]), f"You use {thing_a} to {USES[thing]}.")


def number_word(rng: random.Random) -> Turn:
    n = rng.randrange(21)
    if rng.random() < 0.5:
        forms = (
            f"How do you write {n} in words?",
            f"Write {n} as a word.",
            f"What is {n} in words?",
            f"Spell the number {n}.",
        )
        form = rng.randrange(len(forms))
        return Turn(
            "number_word", f"{n}/{form}", asked(rng, forms[form]), f"The number {n} in words is {NUMBER_WORDS[n]}."
        )
    word = NUMBER_WORDS[n]
    forms = (
        f"Write {word} in digits.",
        f"Which number is {word}?",
        f"What is {word} as a number?",
        f"Turn {word} into digits.",
    )
    form = rng.randrange(len(forms))
    return Turn("number_word", f"{word}/{form}", asked(rng, forms[form]), f"The number {word} is {n}.")


def fact(rng: random.Random) -> Turn:
    topic = rng.choice(_FACTS)
    form = rng.randrange(len(topic.questions))
    return Turn("fact", f"{topic.name}/{form}", asked(rng, topic.questions[form]), topic.answer)


FAMILIES: tuple[tuple[Family, float], ...] = (
    (colour, 0.8),
    (animal, 1.8),
    (plural_of, 1.2),
    (capital_city, 0.8),
    (country_of, 0.5),
    (job, 0.8),
    (use, 0.8),
    (number_word, 0.5),
    (fact, 1.0),
)
