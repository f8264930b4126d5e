"""The repositories this machine uses: add, remove, look again, search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.received import remove_entries
from pantry.catalogue.rights import Circumstances
from pantry.catalogue.schema import Use
from pantry.core.errors import PantryError, UsageError
from pantry.core.paths import Paths
from pantry.install.resolve import Looked, refresh_repository
from pantry.repository.configured import Configured, Repositories, read_root
from pantry.repository.entry import KINDS, Entry
from pantry.repository.index import Index, Query, State
from pantry.store.database import Database


@dataclass(frozen=True)
class Listed:
    """A configured repository; `state` is None until it was looked at."""

    configured: Configured
    state: State | None


@dataclass(frozen=True)
class Refreshed:
    """The outcome of looking at one repository, or the error."""

    name: str
    looked: Looked | None
    error: PantryError | None = None


def add_repository(paths: Paths, name: str, url: str, root_file: Path) -> Looked:
    """Add a repository with its root of trust, and look at it; nothing is added when that fails.

    Raises UsageError, ConflictError, NotFoundError (root file), BadFileError (no root), VerificationError,
    DownloadError.
    """
    from pantry.repository.roots import check_root

    root = read_root(root_file)
    check_root(root, str(root_file))
    repositories = Repositories(paths)
    repositories.add(name, url, root)
    try:
        return refresh_repository(paths, name)
    except BaseException:
        repositories.remove(name)
        raise


def remove_repository(paths: Paths, name: str) -> None:
    """Forget a repository; what was pulled from it stays. Raises NotFoundError with the nearest name."""
    Repositories(paths).remove(name)
    remove_entries(paths, name)
    with Database(paths.database) as database:
        Index(database).forget(name)


def list_repositories(paths: Paths) -> list[Listed]:
    """The configured repositories, with when each was looked at."""
    with Database(paths.database) as database:
        states = Index(database).states()
    return [Listed(each, states.get(each.name)) for each in Repositories(paths).list()]


def refresh_repositories(paths: Paths) -> list[Refreshed]:
    """Look at every repository; one that fails does not keep the others from it."""
    outcomes = []
    for each in Repositories(paths).list():
        try:
            outcomes.append(Refreshed(each.name, refresh_repository(paths, each.name)))
        except PantryError as error:
            outcomes.append(Refreshed(each.name, None, error))
    return outcomes


def search_entries(
    paths: Paths,
    words: Sequence[str] = (),
    *,
    kind: str | None = None,
    tags: Sequence[str] = (),
    uses: Sequence[Use] = (),
    max_memory: int | None = None,
    repository: str | None = None,
    limit: int = 100,
) -> list[Entry]:
    """What the repositories offered when last looked at, best first; nothing is fetched.

    `uses` keeps entries whose licence allows them all, conditions included; `max_memory` (bytes) keeps models that
    fit. Raises UsageError for an unknown kind.
    """
    if kind is not None and kind not in KINDS:
        raise UsageError(f"There is no kind {kind!r}.", hint=f"Kinds: {', '.join(KINDS)}.")
    with Database(paths.database) as database:
        index = Index(database)
        licences = _allowing(paths, index.licences(), uses) if uses else None
        query = Query(tuple(words), kind, tuple(tags), licences, max_memory, repository)
        return index.search(query, limit)


def _allowing(paths: Paths, licences: Sequence[str], uses: Sequence[Use]) -> frozenset[str]:
    """The licence texts that allow all uses, perhaps under conditions; unknown ones do not."""
    catalogue = Catalogue.open(paths)
    try:
        return frozenset(text for text in licences if _allows(catalogue, text, uses))
    finally:
        catalogue.close()


def _allows(catalogue: Catalogue, licence: str, uses: Sequence[Use]) -> bool:
    try:
        verdicts = {catalogue.judge_text(licence, use, Circumstances()).verdict for use in uses}
    except PantryError:
        return False
    return verdicts <= {"allowed", "conditional"}
