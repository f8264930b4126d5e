"""Looking over catalogue files before they are used: every mistake at once, each with file, line and field."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pantry.catalogue.expressions import Expression, Term, parse_expression
from pantry.catalogue.files import Loaded, catalogue_files, examine_files, place_of
from pantry.catalogue.lookup import catalogue_sources
from pantry.catalogue.merge import BUILTIN, merge
from pantry.catalogue.names import licence_ids
from pantry.catalogue.schema import Entry, ModelEntry, TagRule
from pantry.catalogue.tags import YearTag
from pantry.core.errors import NotFoundError, UsageError, did_you_mean
from pantry.core.paths import Paths


@dataclass(frozen=True)
class Checked:
    """How many entries were looked at, and what is wrong: one sentence a mistake."""

    count: int
    problems: tuple[str, ...]


def check_catalogue(paths: Paths, places: Sequence[Path] = ()) -> Checked:
    """Look over the files and folders at `places`, or what repositories and the overlay add to what is shipped.

    Beside what would be left out it finds names that lead nowhere. Raises NotFoundError for a place that is none.
    """
    shipped = catalogue_sources(None)
    looked_at = [(file, "given") for place in places for file in _files(place)] if places else _added(paths)
    loaded, problems = examine_files([*shipped, *looked_at])
    merged = merge(loaded)
    added = [each for each in loaded if each.origin != BUILTIN]
    known = Known.of(loaded)
    return Checked(
        len(added), (*problems, *merged.problems, *(text for each in added for text in dangling(each, known)))
    )


def _added(paths: Paths) -> list[tuple[Path, str]]:
    return [(file, origin) for file, origin in catalogue_sources(paths) if origin != BUILTIN]


def _files(place: Path) -> list[Path]:
    if not place.exists():
        raise NotFoundError(f"There is no file or folder {place}.")
    return catalogue_files(place) if place.is_dir() else [place]


@dataclass(frozen=True)
class Known:
    """The names that entries may refer to, by what they name."""

    ids: Mapping[str, Collection[str]]
    licences: Mapping[str, str]

    @classmethod
    def of(cls, entries: Sequence[Loaded]) -> Known:
        """The names of these entries."""
        ids: dict[str, set[str]] = {kind: set() for kind in ("model", "dataset", "family", "source")}
        for each in entries:
            ids.setdefault(each.kind, set()).add(each.entry.id)
        ids["tag"] = {each.entry.name for each in entries if isinstance(each.entry, TagRule)}
        return cls(ids, licence_ids(entries))


def dangling(each: Loaded, known: Known) -> Iterator[str]:
    """One sentence for every name in an entry that leads nowhere."""
    for field, kind, name in _references(each.entry):
        if name not in known.ids[kind]:
            hint = did_you_mean(name, known.ids[kind])
            yield _told(each, field, f"there is no {kind} {name!r}", hint)
    for field in ("licence", "upstream_terms"):
        text = getattr(each.entry, field, None)
        for name in _unknown_licences(text, known.licences) if isinstance(text, str) else ():
            yield _told(each, field, f"the catalogue has no licence {name!r}", did_you_mean(name, known.licences))


def _references(entry: object) -> Iterator[tuple[str, str, str]]:
    """Field, kind and name of everything an entry refers to."""
    if isinstance(entry, Entry):
        yield from (("sources", "source", ref.partition(":")[0]) for ref in entry.sources)
        for refs in entry.fact_sources.values():
            yield from (("fact_sources", "source", ref.partition(":")[0]) for ref in refs)
    if isinstance(entry, ModelEntry):
        yield "family", "family", entry.family
        if entry.base is not None:
            yield "base", "model", entry.base
        yield from (("data", "dataset", name) for name in entry.data)
        yield from (("tags", "tag", tag) for tag in entry.tags if YearTag.parse(tag) is None)
        yield from (("files", "source", file.source.partition(":")[0]) for file in entry.files)


def _unknown_licences(text: str, names: Mapping[str, str]) -> Iterator[str]:
    try:
        yield from _unknown_terms(parse_expression(text, names))
    except UsageError:
        return  # told already, when the entries were merged


def _unknown_terms(node: Expression) -> Iterator[str]:
    if not isinstance(node, Term):
        for part in node.parts:
            yield from _unknown_terms(part)
    elif not node.known:
        yield node.id


def _told(each: Loaded, field: str, what: str, hint: str | None) -> str:
    return (
        f"{place_of(each, field)}: {each.kind} {each.entry.id!r}, field {field!r}: {what}.{f' {hint}' if hint else ''}"
    )
