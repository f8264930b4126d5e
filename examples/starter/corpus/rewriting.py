"""Instructions: change a sentence, spell a word, repeat, name some things."""

from __future__ import annotations

import random

from .lists_and_numbers import PLAIN_WORDS
from .turn import Family, Turn, asked
from .words import (
    BOYS,
    COLOURS,
    KIND_NAMES,
    KINDS,
    NAMES,
    THINGS,
    TOWN_PLACES,
    VERBS,
    VERBS_WITH_OBJECT,
    capital,
    listed,
    plural,
)

_SHORT_WORDS = [word for word in PLAIN_WORDS if len(word) == 3]
"""Spelling has to be learned word by word, so only the shortest are taught."""


def _sentence(rng: random.Random) -> tuple[str, str, str, str]:
    """A sentence in the present and in the past, its negative, and its question."""
    name = rng.choice(NAMES)
    if rng.random() < 0.5:
        base, third, past = rng.choice(VERBS)
        tail = rng.choice(("at the", "near the", "behind the")) + " " + rng.choice(TOWN_PLACES)
    else:
        base, third, past = rng.choice(VERBS_WITH_OBJECT)
        tail = rng.choice((f"the {rng.choice(COLOURS)} {rng.choice(THINGS)}", f"the {rng.choice(THINGS)}"))
    return (
        f"{name} {third} {tail}.",
        f"{name} {past} {tail}.",
        f"{name} does not {base} {tail}.",
        f"Does {name} {base} {tail}?",
    )


def past_tense(rng: random.Random) -> Turn:
    now, before, _, _ = _sentence(rng)
    form = rng.choice(
        (
            "Put this sentence in the past: {}",
            "Write this in the past tense: {}",
            "Past tense: {}",
            "Change to the past: {}",
            "Say it as if it was yesterday: {}",
        )
    )
    return Turn("past_tense", now, asked(rng, form.format(now), lower=False), before)


def negative(rng: random.Random) -> Turn:
    now, _, no, _ = _sentence(rng)
    form = rng.choice(
        (
            "Make this negative: {}",
            "Make this sentence negative: {}",
            "Say that this is not so: {}",
            "Write the negative of this sentence: {}",
        )
    )
    return Turn("negative", now, asked(rng, form.format(now), lower=False), no)


def make_question(rng: random.Random) -> Turn:
    now, _, _, question = _sentence(rng)
    form = rng.choice(
        (
            "Turn this into a question: {}",
            "Make a question of this: {}",
            "Ask this as a question: {}",
            "Write this as a question: {}",
        )
    )
    return Turn("make_question", now, asked(rng, form.format(now), lower=False), question)


def swap_name(rng: random.Random) -> Turn:
    now, _, _, _ = _sentence(rng)
    old = now.split()[0]
    new = rng.choice([n for n in NAMES if n != old])
    form = rng.choice(
        (
            f"Replace {old} with {new}: {now}",
            f"Change the name {old} to {new}: {now}",
            f"Write {new} in place of {old}: {now}",
        )
    )
    return Turn("swap_name", f"{now}{new}", asked(rng, form, lower=False), now.replace(old, new))


def pronoun(rng: random.Random) -> Turn:
    now, _, _, _ = _sentence(rng)
    name = now.split()[0]
    form = rng.choice(
        (
            "Replace the name with he or she: {}",
            "Use he or she in place of the name: {}",
            "Write this with he or she: {}",
        )
    )
    return Turn(
        "pronoun", now, asked(rng, form.format(now), lower=False), now.replace(name, "He" if name in BOYS else "She")
    )


def spell(rng: random.Random) -> Turn:
    word = rng.choice(_SHORT_WORDS)
    if rng.random() < 0.6:
        what, answer = "spell", f"The word {word} is spelled {'-'.join(word.upper())}."
        forms = (f"How do you spell {word}?", f"Spell {word}.", f"Spell the word {word}.", f'Spell "{word}".')
    else:
        what, answer = "first", f"The first letter of {word} is {word[0].upper()}."
        forms = (
            f"What is the first letter of {word}?",
            f"Which letter does {word} begin with?",
            f"What letter does {word} start with?",
            f'What is the first letter of the word "{word}"?',
        )
    form = rng.randrange(len(forms))
    return Turn("spell", f"{word}/{what}/{form}", asked(rng, forms[form]), answer)


def repeat(rng: random.Random) -> Turn:
    now, before, _, _ = _sentence(rng)
    text = rng.choice((now, before))
    form = rng.choice(
        ("Repeat this: {}", "Repeat after me: {}", "Say this: {}", "Copy this sentence: {}", "Say exactly this: {}")
    )
    return Turn("repeat", text, asked(rng, form.format(text), lower=False), text)


def name_three(rng: random.Random) -> Turn:
    kind = rng.choice(KIND_NAMES)
    number, word = rng.choice(((2, "two"), (3, "three"), (3, "3"), (4, "four")))
    group = [t for t, k in KINDS.items() if k == kind]
    # In one order always: a model that names them one by one then never names one twice.
    things = [group[at] for at in sorted(rng.sample(range(len(group)), number))]
    forms = (
        f"Name {word} {plural(kind)}.",
        f"Give me {word} {plural(kind)}.",
        f"List {word} {plural(kind)}.",
        f"Tell me {word} {plural(kind)}.",
        f"I need {word} {plural(kind)}.",
        f"Can you name {word} {plural(kind)}?",
    )
    form = rng.randrange(len(forms))
    answer = f"{capital(word) if word != '3' else 'Three'} {plural(kind)} are {listed(things)}."
    return Turn(
        "name_some",
        f"{kind}/{word}/{form}",
        asked(rng, forms[form]),
        answer,
        check="name_some",
        must=(kind, str(number)),
    )


FAMILIES: tuple[tuple[Family, float], ...] = (
    (past_tense, 1.0),
    (negative, 0.7),
    (make_question, 0.7),
    (swap_name, 0.7),
    (pronoun, 0.6),
    (spell, 1.0),
    (repeat, 0.8),
    (name_three, 1.2),
)
