"""Entries of several origins become one catalogue.

What is shipped comes first, then what repositories send, then the user's overlay. An entry of the overlay replaces the
one of the same id: it is the user's own word. An entry of a repository is a stranger's word about what is known
already: it fills in what the entry leaves open, and its rights count only where they are stricter. It cannot change a
licence, a tag or a source that is there, nor take over a name that a shipped entry goes by.

An entry that cannot stand beside the others is left out and told; the rest stays usable.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pantry.catalogue.expressions import parse_expression
from pantry.catalogue.files import Loaded, place_of
from pantry.catalogue.names import every_name, licence_ids, names_of
from pantry.catalogue.rights import MAX_CHAIN
from pantry.catalogue.schema import Dataset, Entry, ModelEntry
from pantry.core.errors import UsageError

Key = tuple[str, str]
"""Kind and id."""
BUILTIN = "builtin"
REPOSITORY = "repository "
"""How the origin of a repository's entries begins."""
_STAND = frozenset({"licence", "source", "tag", "family"})
"""Kinds in which a repository adds new entries only: rights, scores and sources of others hang on them."""
_KEPT = frozenset(
    [*("id", "name", "sources", "fact_sources", "checked", "family", "inputs", "outputs", "remote"),
     *("licence", "alignment", "hub_repo", "files", "legacy")]
)  # fmt: skip
"""Fields in which a repository fills no gap: they say what a model is, and what may be done with it."""
_WORST = ("aligned", "unknown", "unaligned", "uncensored", "maligned")
"""Alignment, mildest first."""


@dataclass(frozen=True)
class Merged:
    """The entries that stand, by kind and id, and what was left out: one sentence each, with its place."""

    entries: Mapping[Key, Loaded]
    problems: tuple[str, ...]


def merge(loaded: Sequence[Loaded]) -> Merged:
    """The catalogue made of `loaded`, which come in the order of their origins."""
    problems: list[str] = []
    known = licence_ids(loaded)
    standing = _without_twice(loaded, problems)
    standing = _without_taken_names(standing, problems)
    standing = _without_wrong_licences(standing, known, problems)
    while True:
        entries = _fold(standing, known)
        dropped = _circles(entries, standing)
        if not dropped:
            return Merged(entries, tuple(problems))
        for each, why in dropped:
            problems.append(_told(each, "base", why))
        gone = {id(each) for each, _ in dropped}
        standing = [each for each in standing if id(each) not in gone]


def _told(each: Loaded, field: str, why: str) -> str:
    return f"{place_of(each, field)}: {each.kind} {each.entry.id!r}, field {field!r}: {why}."


def _without_twice(loaded: Iterable[Loaded], problems: list[str]) -> list[Loaded]:
    """The first of several entries that one origin gives for one id."""
    seen: set[tuple[str, str, str]] = set()
    kept = []
    for each in loaded:
        key = (each.origin, each.kind, each.entry.id)
        if key in seen:
            problems.append(_told(each, "id", "there are two entries with this id; keep one"))
        else:
            kept.append(each)
        seen.add(key)
    return kept


def _without_taken_names(loaded: Sequence[Loaded], problems: list[str]) -> list[Loaded]:
    """Without entries of repositories that would be asked for by a name of a shipped entry."""
    shipped = {(name, kind): id for name, kind, id in every_name(each for each in loaded if each.origin == BUILTIN)}
    kept = []
    for each in loaded:
        id = each.entry.id
        names = [id, *names_of(each.entry)] if each.kind == "tag" else [id]
        owner = next((shipped[name, each.kind] for name in names if (name, each.kind) in shipped), id)
        if each.origin.startswith(REPOSITORY) and owner != id:
            problems.append(_told(each, "id", f"this is a name of the shipped entry {owner!r}"))
        else:
            kept.append(each)
    return kept


def _without_wrong_licences(loaded: Sequence[Loaded], known: Mapping[str, str], problems: list[str]) -> list[Loaded]:
    """Without entries, other than shipped ones, that name a licence in words that do not parse."""
    kept = []
    for each in loaded:
        wrong = None if each.origin == BUILTIN else _wrong_licence(each.entry, known)
        if wrong is None:
            kept.append(each)
        else:
            problems.append(_told(each, *wrong))
    return kept


def _wrong_licence(entry: object, known: Mapping[str, str]) -> tuple[str, str] | None:
    """The field whose licence does not parse, and why; None when all do."""
    for field in ("licence", "upstream_terms"):
        text = getattr(entry, field, None)
        if isinstance(text, str) and text.lower() not in known:
            try:
                parse_expression(text, known)
            except UsageError as error:
                return field, error.message.rstrip(".")
    return None


def _fold(loaded: Iterable[Loaded], known: Mapping[str, str]) -> dict[Key, Loaded]:
    entries: dict[Key, Loaded] = {}
    for each in loaded:
        key = (each.kind, each.entry.id)
        here = entries.get(key)
        entries[key] = each if here is None or not each.origin.startswith(REPOSITORY) else _filled(here, each, known)
    return entries


def _filled(here: Loaded, there: Loaded, known: Mapping[str, str]) -> Loaded:
    """`here` with what a repository adds to it."""
    mine, theirs = here.entry, there.entry
    if here.kind in _STAND or not isinstance(mine, Entry) or not isinstance(theirs, Entry):
        return here
    changes = _gaps(mine, theirs) | _stricter(mine, theirs, known)
    if not changes:
        return here
    refs = {name: theirs.source_of(name) for name in changes}
    changes["fact_sources"] = dict(mine.fact_sources) | refs
    return replace(here, entry=mine.model_copy(update=changes), origin=f"{here.origin} with {there.origin}")


def _gaps(mine: Entry, theirs: Entry) -> dict[str, Any]:
    """The fields that only `theirs` says something about."""
    stated = mine.model_dump(exclude_defaults=True).keys() | _KEPT
    given = theirs.model_dump(exclude_defaults=True).keys() - stated
    return {name: getattr(theirs, name) for name in sorted(given)}


def _stricter(mine: Entry, theirs: Entry, known: Mapping[str, str]) -> dict[str, Any]:
    """What `theirs` says against the rights of `mine`."""
    found: dict[str, Any] = {}
    if isinstance(mine, (ModelEntry, Dataset)) and isinstance(theirs, (ModelEntry, Dataset)):
        licence = _both(mine.licence, theirs.licence, known)
        if licence != mine.licence:
            found["licence"] = licence
    if isinstance(mine, ModelEntry) and isinstance(theirs, ModelEntry):
        worst = worst_alignment(mine.alignment, theirs.alignment)
        if theirs.alignment != "unknown" and worst != mine.alignment:
            found["alignment"] = worst
        if set(theirs.data) - set(mine.data):
            found["data"] = tuple(dict.fromkeys((*mine.data, *theirs.data)))
        if set(theirs.harms) - set(mine.harms):
            found["harms"] = tuple(dict.fromkeys((*mine.harms, *theirs.harms)))
    return found


def worst_alignment(*alignments: str) -> str:
    """The worst of them, where nobody knowing is worse than a model that was aligned."""
    return max(alignments, key=_WORST.index)


def _both(mine: str | None, theirs: str | None, known: Mapping[str, str]) -> str | None:
    """Both licences at once. What is not known stays so: a repository cannot turn `unknown` into `allowed`."""
    if mine is None or theirs is None:
        return mine
    one, other = (known.get(text.strip().lower(), text) for text in (mine, theirs))
    if one == other:
        return mine
    joined = f"({one}) AND ({other})"
    try:
        parse_expression(joined, known)
    except UsageError:
        return mine
    return joined


def _circles(entries: Mapping[Key, Loaded], standing: Sequence[Loaded]) -> list[tuple[Loaded, str]]:
    """Which entries to leave out, and why, so that no bases run in a circle or deeper than MAX_CHAIN models.

    Of a circle that is the last entry that is not shipped: the one that closed it.
    """
    bases = {each.entry.id: each.entry.base for each in entries.values() if isinstance(each.entry, ModelEntry)}
    foreign = {
        each.entry.id: (number, each)
        for number, each in enumerate(standing)
        if each.origin != BUILTIN and isinstance(each.entry, ModelEntry) and each.entry.base
    }
    depths: dict[str | None, int] = {}
    dropped: dict[int, tuple[Loaded, str]] = {}

    def drop(path: Sequence[str], why: str) -> None:
        number, each = max((foreign[id] for id in path if id in foreign), default=(-1, None), key=lambda one: one[0])
        if each is not None:
            dropped[number] = (each, why)

    for start in bases:
        path: dict[str, None] = {}
        current: str | None = start
        while current is not None and current in bases and current not in depths and current not in path:
            path[current] = None
            current = bases[current]
        ids = list(path)
        if current in path:
            circle = ids[ids.index(current) :]
            drop(circle, f"the bases run in a circle: {' -> '.join([*circle[:8], circle[0]])}")
        for number, id in reversed(list(enumerate(ids))):
            depths[id] = depths.get(bases[id], 0) + 1
            if depths[id] > MAX_CHAIN:
                drop([id] if id in foreign else ids[number:], f"the bases are more than {MAX_CHAIN} models deep")
                depths[id] = 0
    return list(dropped.values())
