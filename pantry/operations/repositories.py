"""The repositories this machine uses: add, remove, look again, search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.received import MAX_RECEIVED, Received, install_entries, received_entries, remove_entries
from pantry.catalogue.rights import Circumstances
from pantry.catalogue.schema import Use
from pantry.core.errors import BadFileError, NotFoundError, PantryError, UsageError
from pantry.core.files import write_atomically
from pantry.core.paths import Paths
from pantry.core.settings import Settings, load_settings
from pantry.repository.configured import Configured, Repositories, read_root
from pantry.repository.entry import KINDS, Entry, Snapshot
from pantry.repository.fetch import Fetcher
from pantry.repository.index import Index, Query, State
from pantry.repository.limits import Limits
from pantry.repository.refs import NamedRef, parse_ref
from pantry.repository.source import Repository, open_repository
from pantry.store.database import Database


@dataclass(frozen=True)
class Listed:
    """A configured repository; `state` is None until it was looked at."""

    configured: Configured
    state: State | None


@dataclass(frozen=True)
class Looked:
    """What a look at a repository brought. `problem`: why its catalogue entries are not those it offers now."""

    snapshot: Snapshot
    entries: Received | None = None
    problem: PantryError | None = None


@dataclass(frozen=True)
class Refreshed:
    """The outcome of looking at one repository, or the error."""

    name: str
    looked: Looked | None
    error: PantryError | None = None


def fetcher_of(paths: Paths, settings: Settings) -> Fetcher:
    """The downloader of a home, as its settings say."""
    return Fetcher(paths.partial, Limits(bandwidth=settings.bandwidth, connections=settings.connections))


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


def refresh_repository(paths: Paths, name: str, settings: Settings | None = None) -> Looked:
    """Look at one repository now. Raises UsageError when offline, VerificationError, DownloadError.

    Flatpacks can be pulled also where its catalogue entries cannot be taken in.
    """
    settings = settings or load_settings(paths)
    if settings.offline:
        raise UsageError("Pantry is set to work offline.", hint="Unset PANTRY_OFFLINE, or offline in config.toml.")
    repository, fetcher = opened(paths, name), fetcher_of(paths, settings)
    snapshot = repository.snapshot(fetcher)
    with Database(paths.database) as database:
        Index(database).replace(snapshot)
    try:
        return Looked(snapshot, _take_entries(paths, repository, snapshot, fetcher))
    except PantryError as error:
        return Looked(snapshot, problem=error)


def _take_entries(paths: Paths, repository: Repository, snapshot: Snapshot, fetcher: Fetcher) -> Received | None:
    """Bring the repository's catalogue entries up to date; they are fetched when they are others than last time."""
    name, offered = snapshot.repository, snapshot.catalogue
    mark = Repositories(paths).state(name) / "entries.digest"
    if offered is None:
        remove_entries(paths, name)
        mark.unlink(missing_ok=True)
        return None
    here = next((each for each in received_entries(paths) if each.repository == name), None)
    if here is not None and mark.is_file() and mark.read_text() == str(offered.digest):
        return here
    if offered.length > MAX_RECEIVED:
        raise BadFileError(
            f"The catalogue entries of {name} have {offered.length} bytes; at most {MAX_RECEIVED} are read."
        )
    with repository.fetched(offered, fetcher) as file:
        content = file.read_bytes()
    received = install_entries(
        paths, name, snapshot.version, content, f"root version {snapshot.root_version} of {name}"
    )
    write_atomically(mark, str(offered.digest).encode())
    return received


def refresh_repositories(paths: Paths) -> list[Refreshed]:
    """Look at every repository; one that fails does not keep the others from it."""
    outcomes = []
    for each in Repositories(paths).list():
        try:
            outcomes.append(Refreshed(each.name, refresh_repository(paths, each.name)))
        except PantryError as error:
            outcomes.append(Refreshed(each.name, None, error))
    return outcomes


def opened(paths: Paths, name: str) -> Repository:
    """A configured repository, ready to be asked. Raises NotFoundError with the nearest name."""
    repositories = Repositories(paths)
    configured = repositories.get(name)
    return open_repository(configured.kind, repositories.place(configured))


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


def entries_named(paths: Paths, name: str, repository: str | None = None) -> list[Entry]:
    """All versions of a name on offer, newest first. Raises NotFoundError with the nearest name."""
    from pantry.core.errors import did_you_mean

    with Database(paths.database) as database:
        index = Index(database)
        found = index.named(name, repository)
        if found:
            return found
        names = index.names()
    where = f"The repository {repository}" if repository else "No repository"
    otherwise = "See what there is with: pantry search" if names else "Add one: pantry repo add NAME URL --root FILE"
    raise NotFoundError(
        f"{where} {'does not offer' if repository else 'offers'} {name!r}.",
        hint=did_you_mean(name, names, otherwise),
    )


def offered(paths: Paths, text: str) -> list[Entry]:
    """What a pull of `name` or `name:version` would choose from, newest first; nothing for any other text."""
    try:
        ref = parse_ref(text)
    except UsageError:
        return []
    if not isinstance(ref, NamedRef):
        return []
    with Database(paths.database) as database:
        index = Index(database)
        found = (index.named(ref.name, each.name) for each in Repositories(paths).list())
        entries = next(filter(None, found), [])
    return [entry for entry in entries if ref.version in (None, entry.version)]


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
