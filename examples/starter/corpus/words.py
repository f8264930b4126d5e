"""Words and plain facts from `words.toml`, and the small grammar around a noun: article, plural, list.

Everything is ordered, so that a seed always writes the same text.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Any, NamedTuple


def table(name: str) -> dict[str, Any]:
    """A data file of this folder."""
    return tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


class Animal(NamedTuple):
    home: str
    sound: str
    young: str
    food: str
    legs: int


class Verb(NamedTuple):
    base: str
    third: str
    """The form after he or she."""
    past: str


_DATA = table("words")


def _pairs(name: str) -> tuple[tuple[str, str], ...]:
    return tuple((left, right) for left, right in (item.split("/") for item in _DATA[name].split()))


def _verbs(name: str) -> tuple[Verb, ...]:
    return tuple(Verb(*item.split("/")) for item in _DATA[name].split())


GIRLS: list[str] = _DATA["girls"].split()
BOYS: list[str] = _DATA["boys"].split()
NAMES = GIRLS + BOYS
PET_NAMES: list[str] = _DATA["pet_names"].split()
ANIMALS = {name: Animal(*facts[:4], legs=int(facts[4])) for name, facts in _DATA["animals"].items()}
KINDS: dict[str, str] = {thing: kind for kind, things in _DATA["kinds"].items() for thing in things.split()}
KIND_NAMES = sorted(_DATA["kinds"])
SIZES: list[list[str]] = [row.split() for row in _DATA["sizes"]]
UNIQUE_THINGS: list[str] = _DATA["unique_things"].split()
MASS_WORDS: list[str] = _DATA["mass_words"].split()
OPPOSITES = _pairs("opposites")
CAPITALS = _pairs("capitals")
IRREGULAR_PLURALS = dict(_pairs("irregular_plurals"))
COLOURS_OF: dict[str, str] = _DATA["colours_of"]
JOBS: dict[str, str] = _DATA["jobs"]
USES: dict[str, str] = _DATA["uses"]
REGULAR_NOUNS: list[str] = _DATA["regular_nouns"].split()
ES_NOUNS: list[str] = _DATA["es_nouns"].split()
IES_NOUNS: list[str] = _DATA["ies_nouns"].split()
DAYS: list[str] = _DATA["days"].split()
MONTHS: list[str] = _DATA["months"].split()
LETTERS = list("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
NUMBER_WORDS: list[str] = _DATA["number_words"].split()
THINGS: list[str] = _DATA["things"].split()
COLOURS: list[str] = _DATA["colours"].split()
CONTAINERS: list[str] = _DATA["containers"].split()
TOWN_PLACES: list[str] = _DATA["town_places"].split()
VERBS = _verbs("verbs")
VERBS_WITH_OBJECT = _verbs("verbs_with_object")


def a(noun: str) -> str:
    """The noun with its indefinite article; nothing before uncountable words."""
    if noun in MASS_WORDS:
        return noun
    return f"an {noun}" if noun[0].lower() in "aeiou" and not noun.startswith(("uni", "use", "one")) else f"a {noun}"


def plural(noun: str) -> str:
    """The plural of a noun of these lists."""
    last = noun.split()[-1]
    if noun.startswith("piece of"):
        return "pieces" + noun[5:]
    if last in IRREGULAR_PLURALS:
        return noun[: len(noun) - len(last)] + IRREGULAR_PLURALS[last]
    if last in ("potato", "mango") or last.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if last.endswith("y") and last[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def capital(text: str) -> str:
    return text[0].upper() + text[1:]


def listed(words: list[str], last: str = "and") -> str:
    """The words as "a, b and c"."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
