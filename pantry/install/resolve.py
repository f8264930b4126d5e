"""Which entry of which repository a name means."""

from __future__ import annotations

from pantry.core.errors import DownloadError, NotFoundError, did_you_mean
from pantry.core.paths import Paths
from pantry.core.settings import Settings
from pantry.install.flatpack import Say
from pantry.operations.repositories import entries_named, refresh_repository
from pantry.repository.configured import Repositories
from pantry.repository.entry import Entry
from pantry.repository.index import Index, has_expired, newest
from pantry.repository.refs import NamedRef
from pantry.store.database import Database


def resolve(paths: Paths, settings: Settings, ref: NamedRef, repository: str | None, say: Say) -> Entry | None:
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


def _look(paths: Paths, settings: Settings, repository: str, say: Say) -> None:
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
