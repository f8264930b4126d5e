"""Where the base of a delta is on this machine: in the store under any name, in other runners' caches, in any file cut.

Recognised by digests only, so a base is found whatever it is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pantry.core.errors import NotFoundError, PantryError, UsageError
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.refs import Digest, ModelName
from pantry.flatpack.licence import check_licence
from pantry.flatpack.manifest import DeltaBase
from pantry.formats.parts import may_hold_tensors
from pantry.install.other_runners import find_models
from pantry.repository.configured import Repositories
from pantry.store.garbage import users
from pantry.store.models import InstalledModel, Store
from pantry.store.packages import Packages
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.match import MatchedBase, match_base, may_fit
from pantry.workshop.delta.sources import Source

_MAX_SET = 2000  # files of one package that are looked into for tensors


@dataclass(frozen=True)
class FoundBase:
    """A base that is here: what it is called, and the licence that is known of it."""

    matched: MatchedBase
    called: str
    licence: str | None


@dataclass(frozen=True)
class PublishedAs:
    """How others find a model that is installed here: its name, the place it came from, its licence."""

    name: str
    place: str | None
    licence: str | None


def published_as(paths: Paths, model: str) -> PublishedAs | None:
    """What a delta made on that installed model says of its base; None for one that came from nowhere public."""
    if not paths.database.exists():
        return None
    with Store.open(paths) as store:
        try:
            found = store.get(ModelName.parse(model))
        except (NotFoundError, UsageError):
            return None
        file = _file_of(store, found)
    package, version = found.facts.get("package"), str(found.facts.get("version") or "")
    licence = known_licence(found.facts.get("licence"))
    if found.source.startswith("hf://"):
        return PublishedAs(str(found.name), f"{found.source}/{file}" if file else found.source, licence)
    if package is None:
        return None
    address = {each.name: each.url for each in Repositories(paths).list()}.get(found.source.partition(":")[0], "")
    place = address if address.startswith(("http://", "https://")) else None
    return PublishedAs(f"{package}:{version}" if version else str(package), place, licence)


def _file_of(store: Store, model: InstalledModel) -> str | None:
    """The path of the model's file in the package it came in."""
    packages = Packages(store)
    came_in = [package for package in packages.list() if package.source == model.source]
    files = (file for package in came_in for file in packages.files(package))
    return next((file.path for file in files if file.digest == model.weights), None)


def known_licence(text: object) -> str | None:
    """The licence, unless it is free text from the header of a file."""
    try:
        return check_licence(str(text)) if text else None
    except ValueError:
        return None


@dataclass(frozen=True)
class _Candidate:
    """Files that may be a base: (path in it, digest where it is in the store, place on disk where it is not)."""

    called: str
    files: tuple[tuple[str, Digest | None, Path | None], ...]
    licence: str | None = None


@contextmanager
def base_here(store: Store, delta: DeltaFolder, progress: Progress | None = None) -> Iterator[FoundBase | None]:
    """The delta's base, open while the block runs, or None when this machine has none that is whole."""
    with ExitStack() as held:
        yield _first_that_fits(store, delta, held, progress)


def _first_that_fits(store: Store, delta: DeltaFolder, held: ExitStack, progress: Progress | None) -> FoundBase | None:
    for candidate in _candidates(store, delta):
        try:
            with ExitStack() as opened:
                source = opened.enter_context(_open(store, candidate))
                if not may_fit(source, delta.payload.index):
                    continue
                matched = match_base(source, delta.table, delta.payload.index, progress)
                held.push(opened.pop_all())
        except PantryError:  # another base, or a damaged file: the next candidate may do
            continue
        return FoundBase(matched, candidate.called, candidate.licence)
    return None


def _candidates(store: Store, delta: DeltaFolder) -> Iterator[_Candidate]:
    """The cheap and likely ones first: exact files of the store, the same size elsewhere, then the same weights."""
    for accepted in delta.table.bases:
        if accepted.files and all(store.blobs.path(fact.digest).exists() for fact in accepted.files):
            yield _by_digest(store, accepted)
    sizes = {accepted.files[0].size for accepted in delta.table.bases if len(accepted.files) == 1}
    for found in find_models() if sizes else ():
        if found.size in sizes:
            yield _Candidate(f"{found.file} ({found.runner})", ((found.file.name, None, found.file),))
    if any(accepted.contents for accepted in delta.table.bases):
        yield from _sets_of_tensors(store)


def _by_digest(store: Store, accepted: DeltaBase) -> _Candidate:
    called = next((name for fact in accepted.files for name in users(store, fact.digest)), accepted.name)
    files = tuple((fact.path, fact.digest, None) for fact in accepted.files)
    return _Candidate(called, files, _licence_in_store(store, accepted.files[0].digest))


def _licence_in_store(store: Store, digest: Digest) -> str | None:
    """What an installed model or package that has this file says of its licence."""
    for model in store.list():
        if any(part.digest == digest for part in model.parts) and model.facts.get("licence"):
            return str(model.facts["licence"])
    packages = Packages(store)
    for package in packages.list():
        if any(file.digest == digest for file in packages.files(package)):
            return _licence_of(package.manifest)
    return None


def _licence_of(manifest: dict[str, object]) -> str | None:
    """The licence of the weights, in a flatpack's manifest or in what a hub told."""
    licence = manifest.get("licence")
    told = licence.get("weights") if isinstance(licence, dict) else licence
    return told if isinstance(told, str) else None


def _sets_of_tensors(store: Store) -> Iterator[_Candidate]:
    """Packages with all their files, then models that came alone."""
    packages = Packages(store)
    seen: set[Digest] = set()
    for package in packages.list():
        files = packages.files(package)
        seen |= {file.digest for file in files}
        if any(may_hold_tensors(file.path) for file in files) and len(files) <= _MAX_SET:
            named = tuple((file.path, file.digest, None) for file in files)
            yield _Candidate(f"{package.name} {package.version}", named, _licence_of(package.manifest))
    for model in store.list():
        if model.weights not in seen and model.kind.tensors:
            licence = model.facts.get("licence")
            named = tuple((part.path, part.digest, None) for part in model.parts)
            yield _Candidate(str(model.name), named, str(licence) if licence else None)


def _open(store: Store, candidate: _Candidate) -> Source:
    """Raises NotFoundError, VerificationError or BadFileError for what is not whole."""
    named = []
    for path, digest, place in candidate.files:
        if place is None:
            if digest is None:
                raise UsageError(f"{path} is nowhere.")
            place = store.blobs.verified_path(digest)
        named.append((path, place, digest))
    return Source.gather(candidate.called, named, is_file=len(named) == 1)
