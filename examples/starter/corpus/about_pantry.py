"""Questions about Pantry itself: what it is, its commands, and its words."""

from __future__ import annotations

import random

from .turn import LEADS, Family, Turn, asked, topics
from .words import table

_DATA = table("about_pantry")
_TOPICS = topics(_DATA)
_TERMS: dict[str, str] = _DATA["terms"]
_TERM_QUESTIONS: list[str] = _DATA["term_questions"]


def command(rng: random.Random) -> Turn:
    topic = rng.choice(_TOPICS)
    form = rng.randrange(len(topic.questions))
    lead = rng.choice(LEADS)
    return Turn("pantry", f"{topic.name}/{form}", asked(rng, lead + topic.questions[form]), topic.answer)


def term(rng: random.Random) -> Turn:
    name = rng.choice(list(_TERMS))
    with_article = (
        f"the {name}"
        if name in ("store", "gateway", "catalogue", "context")
        else (name if name == "selection" else f"an {name}" if name[0] in "aeiou" else f"a {name}")
    )
    form = rng.randrange(len(_TERM_QUESTIONS))
    return Turn(
        "pantry_words", f"{name}/{form}", asked(rng, _TERM_QUESTIONS[form].format(a=with_article, t=name)), _TERMS[name]
    )


FAMILIES: tuple[tuple[Family, float], ...] = ((command, 6.0), (term, 2.0))
