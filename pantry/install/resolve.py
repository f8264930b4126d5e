"""Which entry of which repository a name means."""

from __future__ import annotations

from dataclasses import dataclass

from pantry.catalogue.received import MAX_RECEIVED, Received, install_entries, received_entries, remove_entries
from pantry.core.errors import BadFileError, DownloadError, NotFoundError, PantryError, UsageError, did_you_mean
from pantry.core.files import write_atomically
from pantry.core.paths import Paths
from pantry.core.settings import Settings, load_settings
from pantry.install.flatpack import OnStep
from pantry.repository.configured import Repositories
from pantry.repository.entry import Entry, Snapshot
from pantry.repository.fetch import Fetcher
from pantry.repository.index import Index, has_expired, newest
from pantry.repository.limits import Limits
from pantry.repository.refs import NamedRef, parse_ref
from pantry.repository.source import Repository, open_repository
from pantry.store.database import Database


def resolve(paths: Paths, settings: Settings, ref: NamedRef, repository: str | None, say: OnStep) -> Entry | None:
    """The entry that is meant: of the first repository that has the name, the newest version or the one asked for.

    None when no repository has the name and none was named. Raises NotFoundError for a version that is not there.
    """
    names = [each.name for each in Repositories(paths).list()]
    if repository is not None:
        names = [Repositories(paths).get(repository).name]
    found: list[Entry] = []
    for name in names:
        try:
            _look(paths, settings, name, say)
        except DownloadError as error:
            if len(names) == 1:
                raise
            raise DownloadError(
                error.message,
                hint=f"{ref} may be a name of {name}, so nobody after it is asked. Ask another one alone with "
                "--from NAME, or see: pantry repo list",
            ) from error
        found = _named(paths, ref.name, name)
        if found:
            break
    if not found and repository is None:
        return None
    if not found:
        found = entries_named(paths, ref.name, repository)
    chosen = newest(found) if ref.version is None else next((e for e in found if e.version == ref.version), None)
    if chosen is None:
        versions = [entry.version for entry in found if entry.facts.yanked is None]
        otherwise = f"Versions: {', '.join(versions[:8])}." if versions else "Every version was taken back."
        raise NotFoundError(
            f"There is no {ref} to be pulled.", hint=did_you_mean(ref.version or "", versions, otherwise)
        )
    return chosen


def _look(paths: Paths, settings: Settings, repository: str, say: OnStep) -> None:
    """Bring the index up to date, or offline say how old it is."""
    if not settings.offline:
        looked = refresh_repository(paths, repository, settings)
        until = looked.snapshot.expires[:10]
        say("metadata verified", f"{repository}, root version {looked.snapshot.root_version}, until {until}")
        if looked.problem is not None:
            say("metadata verified", f"its catalogue entries were left out: {looked.problem.message}")
        return
    with Database(paths.database) as database:
        state = Index(database).states().get(repository)
    if state is not None:
        age = f"{repository}, offline: as verified on {state.refreshed_at[:10]}"
        say("metadata verified", f"{age}, expired since" if has_expired(state) else age)


def _named(paths: Paths, name: str, repository: str) -> list[Entry]:
    try:
        return entries_named(paths, name, repository)
    except NotFoundError:
        return []


@dataclass(frozen=True)
class Looked:
    """What a look at a repository brought. `problem`: why its catalogue entries are not those it offers now."""

    snapshot: Snapshot
    entries: Received | None = None
    problem: PantryError | None = None


def fetcher_of(paths: Paths, settings: Settings) -> Fetcher:
    """The downloader of a home, as its settings say."""
    return Fetcher(paths.partial, Limits(bandwidth=settings.bandwidth, connections=settings.connections))


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


def opened(paths: Paths, name: str) -> Repository:
    """A configured repository, ready to be asked. Raises NotFoundError with the nearest name."""
    repositories = Repositories(paths)
    configured = repositories.get(name)
    return open_repository(configured.kind, repositories.place(configured))


def entries_named(paths: Paths, name: str, repository: str | None = None) -> list[Entry]:
    """All versions of a name on offer, newest first. Raises NotFoundError with the nearest name."""
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
