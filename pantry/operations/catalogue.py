"""Using the catalogue: search, describe, answer about rights, list, compare, take in entries of a repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pantry.catalogue.files import Loaded, catalogue_files, examine_file, read_file
from pantry.catalogue.lookup import Catalogue, catalogue_sources
from pantry.catalogue.memory import download_size, memory_size
from pantry.catalogue.merge import BUILTIN, merge
from pantry.catalogue.rights import USES, Answer, Circumstances
from pantry.catalogue.schema import Entry, Family, ModelEntry, Source, Use
from pantry.core.errors import ModelNotFoundError, NotFoundError, PantryError
from pantry.core.paths import Paths
from pantry.evaluation.scores import Score, list_scores
from pantry.install.installed import installed_model
from pantry.policy.identity import chain_of_installed, identity_of
from pantry.policy.subjects import installed_answers
from pantry.store.models import InstalledModel, Store


@dataclass(frozen=True)
class Description:
    """All that is known of one model, for people and programs."""

    model: ModelEntry
    origin: str
    family: Family | None
    answers: tuple[Answer, ...]
    memory: int | None
    download: int | None
    sources: Mapping[str, str] = field(default_factory=dict)
    """Titles of the sources, by id."""

    def to_json(self) -> dict[str, Any]:
        """The description for programs."""
        return {
            "model": self.model.model_dump(mode="json", exclude_defaults=True),
            "origin": self.origin,
            "family": self.family.model_dump(mode="json", exclude_none=True) if self.family else None,
            "rights": [answer.to_json() for answer in self.answers],
            "memory_bytes": self.memory,
            "download_bytes": self.download,
            "sources": dict(self.sources),
        }


@dataclass(frozen=True)
class Change:
    """One difference between two catalogues: an entry came, went, or had a field changed."""

    kind: str
    id: str
    change: str
    """`added`, `removed`, or `changed`."""
    fields: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)


def describe(catalogue: Catalogue, name: str, circumstances: Circumstances | None = None) -> Description:
    """All that the catalogue knows of a model. Raises NotFoundError with the nearest name."""
    model = catalogue.model(name)
    answers = tuple(catalogue.judge(model, use, circumstances or Circumstances()) for use in USES)
    refs = {*model.sources, *(ref for refs in model.fact_sources.values() for ref in refs)}
    titles = {ref: source.title for ref in sorted(refs) if (source := source_of(catalogue, ref))}
    return Description(
        model=model,
        origin=catalogue.origin("model", model.id) or "builtin",
        family=catalogue.find("family", model.family, Family),
        answers=answers,
        memory=None if model.remote else memory_size(model),
        download=None if model.remote else download_size(model),
        sources=titles,
    )


@dataclass(frozen=True)
class Shown:
    """What is installed under a name, what the catalogue knows of it, and which rights it has.

    The description of an installed model is that of what its file is; `remark` says by what that is known, or that the
    catalogue's entry of its name is another model.
    """

    installed: InstalledModel | None
    description: Description | None
    answers: tuple[Answer, ...]
    remark: str | None = None
    scores: tuple[Score, ...] = ()
    """What somebody measured here of the installed model's abilities."""


def describe_any(paths: Paths, catalogue: Catalogue, name: str) -> Shown:
    """All about an installed model or one of the catalogue. Raises ModelNotFoundError with the nearest name."""
    try:
        installed = installed_model(paths, name)
    except ModelNotFoundError as missing:
        try:
            described = describe(catalogue, name)
        except NotFoundError as unknown:
            near = missing.hint if (missing.hint or "").startswith("Did you mean") else unknown.hint
            raise ModelNotFoundError(missing.message, hint=near) from None
        return Shown(None, described, described.answers)
    known = identity_of(catalogue, installed)
    answers = tuple(installed_answers(catalogue, installed, known, USES, Circumstances()).values())
    with Store.open(paths) as store:
        scores = tuple(score for score in list_scores(store.database) if score.model == installed.digest)
    if known.entry is not None:
        described = replace(describe(catalogue, known.entry.id), answers=answers)
        return Shown(installed, described, answers, known.words, scores)
    named = catalogue.find_model(installed.name.name)
    remark = f"the catalogue knows another model as {named.id}; nothing shows that this file is it" if named else None
    return Shown(installed, None, answers, remark, scores)


def source_of(catalogue: Catalogue, ref: str) -> Source | None:
    """The source behind a reference like `book:licences`."""
    return catalogue.find("source", ref.partition(":")[0], Source)


def check_rights(
    catalogue: Catalogue, text: str, uses: Sequence[Use], circumstances: Circumstances | None = None
) -> list[Answer]:
    """The answers for a model of the catalogue, or for a licence expression.

    Raises NotFoundError when `text` is neither, UsageError when it is an expression that does not parse.
    """
    asked = circumstances or Circumstances()
    model = catalogue.find_model(text)
    if model is not None:
        return [catalogue.judge(model, use, asked) for use in uses]
    if text.strip().lower() not in catalogue.licence_names and not re.search(r"\s|\(|LicenseRef-", text):
        try:
            catalogue.model(text)
        except NotFoundError as error:
            raise NotFoundError(
                f"{text.strip()[:80]!r} is neither a model of the catalogue nor a licence it knows.", hint=error.hint
            ) from None
    return [catalogue.judge_text(text, use, asked) for use in uses]


def rights_of(
    paths: Paths, catalogue: Catalogue, name: str, uses: Sequence[Use], circumstances: Circumstances | None = None
) -> list[Answer]:
    """As `check_rights`; an installed model is judged by what it is, its header and manifest included.

    Raises NotFoundError also when nothing says under which licence an installed model stands.
    """
    with Store.open(paths) as store:
        found = next((model for model in store.list() if str(model.name) == name.strip().lower()), None)
    if found is None:
        return check_rights(catalogue, name, uses, circumstances)
    known = identity_of(catalogue, found)
    if not any(link.licence for link in chain_of_installed(catalogue, found, known)):
        raise NotFoundError(f"Neither the catalogue nor the file of {name} says under which licence it stands.")
    return list(installed_answers(catalogue, found, known, uses, circumstances or Circumstances()).values())


def list_entries(
    catalogue: Catalogue, kind: str, *, origin: str | None = None, source: str | None = None, text: str | None = None
) -> list[tuple[str, Entry | Source | Family]]:
    """Entries of a kind with their origins, filtered by origin, source id, and words in id or name."""
    found = []
    for where, entry in catalogue.entries(kind):
        if origin is not None and where.split()[0] != origin:
            continue
        if source is not None and not _rests_on(entry, source):
            continue
        if text is not None and text.lower() not in f"{entry.id} {getattr(entry, 'name', '')}".lower():
            continue
        found.append((where, entry))
    return found


def _rests_on(entry: Entry | Source | Family, source: str) -> bool:
    if not isinstance(entry, Entry):
        return False
    refs = {*entry.sources, *(ref for refs in entry.fact_sources.values() for ref in refs)}
    return any(ref == source or ref.partition(":")[0] == source for ref in refs)


def read_catalogue(place: Path) -> list[Loaded]:
    """The entries of one catalogue file or folder. Raises BadFileError with file, line and field; NotFoundError."""
    if not place.exists():
        raise NotFoundError(f"There is no file or folder {place}.")
    files = catalogue_files(place) if place.is_dir() else [place]
    return [loaded for file in files for loaded in read_file(file, str(place))]


def compare(old: Iterable[Loaded], new: Iterable[Loaded]) -> list[Change]:
    """What changed from `old` to `new`, by kind and id."""
    before = {(each.kind, each.entry.id): each.entry for each in old}
    after = {(each.kind, each.entry.id): each.entry for each in new}
    changes = []
    for key in sorted(before.keys() | after.keys()):
        if key not in before:
            changes.append(Change(*key, "added"))
        elif key not in after:
            changes.append(Change(*key, "removed"))
        elif before[key] != after[key]:
            a, b = before[key].model_dump(mode="json"), after[key].model_dump(mode="json")
            fields = {
                name: (a.get(name), b.get(name)) for name in sorted(a.keys() | b.keys()) if a.get(name) != b.get(name)
            }
            changes.append(Change(*key, "changed", fields))
    return changes


def overlay_changes(paths: Paths) -> list[Change]:
    """What repositories and the user's overlay change in what is shipped; wrong entries change nothing."""
    loaded = [
        each
        for file, origin in catalogue_sources(paths)
        for each in examine_file(file, origin)
        if not isinstance(each, PantryError)
    ]
    shipped = [each for each in loaded if each.origin == BUILTIN]
    return compare(shipped, merge(loaded).entries.values())
