"""By which names an entry can be asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pantry.catalogue.files import Loaded
from pantry.catalogue.schema import Dataset, Entry, Family, Licence, ModelEntry, Source


def names_of(entry: Entry | Source | Family) -> list[str]:
    """Its names beside its id, in lower case: title, hub repository, SPDX id, aliases, the name of 2023."""
    names: list[str | None] = []
    if not isinstance(entry, Source):
        names.append(entry.name)
    if isinstance(entry, (ModelEntry, Dataset)) and entry.hub_repo:
        names += [entry.hub_repo, entry.hub_repo.rsplit("/", 1)[-1]]
    if isinstance(entry, ModelEntry) and entry.legacy:
        names.append(entry.legacy.id)
    if isinstance(entry, Licence):
        names += [entry.spdx, *entry.aliases]
    if isinstance(entry, Family):
        names += entry.aliases
    return [name.strip().lower() for name in names if name]


def every_name(entries: Iterable[Loaded]) -> Iterator[tuple[str, str, str]]:
    """Every name with kind and id; ids first, so that they win, then the names of earlier entries."""
    found = list(entries)
    for each in found:
        yield each.entry.id, each.kind, each.entry.id
    for each in found:
        for name in names_of(each.entry):
            yield name, each.kind, each.entry.id


def licence_ids(entries: Iterable[Loaded]) -> dict[str, str]:
    """Ids, SPDX ids and aliases of the licences among `entries`, each with our id."""
    licences = [each for each in entries if each.kind == "licence"]
    found: dict[str, str] = {}
    for name, _, id in every_name(licences):
        found.setdefault(name, id)
    return found
