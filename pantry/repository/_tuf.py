"""The TUF client workflow by python-tuf, with our reader under it and our errors above it.

Verified metadata are kept in the repository's state folder: versions never go back from there (rollback), and
expired metadata are refused (freeze).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from tuf.api import exceptions
from tuf.api.metadata import Metadata, Root, TargetFile, Targets
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from pantry.core.errors import BadFileError, DownloadError, PantryError, UsageError, VerificationError
from pantry.core.files import storage_errors
from pantry.core.locks import locked
from pantry.core.refs import Digest
from pantry.flatpack.names import check_path
from pantry.repository.entry import (
    CATALOGUE_CUSTOM,
    CATALOGUE_PATH,
    CatalogueTarget,
    Entry,
    Snapshot,
    Target,
    parse_custom,
)
from pantry.repository.roots import check_root
from pantry.repository.source import Place

MAX_TARGETS = 256 << 20  # bytes of targets metadata: about 500,000 entries
MAX_SNAPSHOT = 2 << 20
_ATTACKS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ExpiredMetadataError, "has expired"),
    (exceptions.BadVersionNumberError, "is older than before, or mixed (a rollback)"),
    (exceptions.UnsignedMetadataError, "is not signed by its trusted keys"),
    (exceptions.LengthOrHashMismatchError, "does not fit together"),
    (exceptions.RepositoryError, "is not valid"),
)
"""What each error of python-tuf says of the metadata, the general one last."""
_STALE = "It may be held back (a freeze), or not kept up; whoever runs it signs anew with: pantry repo publish DIR"
_NEVER = "Nothing of it is used. Ask whoever runs it; someone may be in between."


def refresh(place: Place, base_url: str, reader: FetcherInterface, waiting: Callable[[], None] | None) -> Snapshot:
    """Bring the metadata up to date and give back what the repository offers.

    Raises VerificationError with the attack the check is against, DownloadError, or StorageError.
    """
    check_root(place.root, f"The root of the repository {place.name!r}")
    with locked(place.state / "refresh.lock", waiting), storage_errors(f"Keeping the metadata of {place.name!r}"):
        config = UpdaterConfig(targets_max_length=MAX_TARGETS, snapshot_max_length=MAX_SNAPSHOT)
        with _judged(place):
            updater = Updater(
                str(place.state), f"{base_url}metadata/", fetcher=reader, config=config, bootstrap=place.root
            )
            updater.refresh()
        return _snapshot(place)


def target_path(target: Target) -> str:
    """The path of a target's file below `targets/`, with its hash before the name (consistent snapshots), quoted."""
    folder, slash, name = target.path.rpartition("/")
    return quote(f"{folder}{slash}{target.digest.hex}.{name}")


@contextlib.contextmanager
def _judged(place: Place) -> Iterator[None]:
    """Turn python-tuf's errors into ours."""
    who = f"the repository {place.name!r} ({place.url})"
    try:
        yield
    except exceptions.RepositoryError as error:
        what = next(what for kind, what in _ATTACKS if isinstance(error, kind))
        hint = _STALE if isinstance(error, exceptions.ExpiredMetadataError) else _NEVER
        raise VerificationError(f"The metadata from {who} {what}: {error}.", hint=hint) from error
    except exceptions.DownloadLengthMismatchError as error:
        raise VerificationError(
            f"The repository {place.name!r} sends more than its metadata may be long: {error}.", hint=_NEVER
        ) from error
    except exceptions.DownloadError as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, PantryError):
            cause = cause.__cause__
        what = cause.message if isinstance(cause, PantryError) else str(error)
        raise DownloadError(
            f"{who} cannot be read: {what}",
            hint="With PANTRY_OFFLINE=1 Pantry uses what it verified before."
            if (place.state / "targets.json").exists()
            else "Its address is that of the folder with metadata/ and targets/ in it.",
        ) from error


def _snapshot(place: Place) -> Snapshot:
    """What the metadata in the state folder say; the updater has just verified them."""
    root = Metadata[Root].from_file(str(place.state / "root.json")).signed
    targets = Metadata[Targets].from_file(str(place.state / "targets.json")).signed
    expires = json.loads((place.state / "timestamp.json").read_bytes())["signed"]["expires"]
    entries, skipped, catalogue = [], 0, None
    for path, target in targets.targets.items():
        if path == CATALOGUE_PATH and (catalogue := _catalogue(target)):
            continue
        entry = _entry(place.name, path, target.length, target.hashes, target.unrecognized_fields.get("custom"))
        if entry is None:
            skipped += 1
        else:
            entries.append(entry)
    return Snapshot(place.name, root.version, targets.version, expires, tuple(entries), skipped, catalogue)


def _catalogue(target: TargetFile) -> CatalogueTarget | None:
    """The target with catalogue entries, unless it is of a format to come."""
    if target.unrecognized_fields.get("custom") != CATALOGUE_CUSTOM:
        return None
    try:
        return CatalogueTarget(target.path, target.length, Digest.parse(f"sha256:{target.hashes.get('sha256', '')}"))
    except UsageError:
        return None


def _entry(repository: str, path: str, length: int, hashes: dict[str, str], custom: Any) -> Entry | None:
    facts = parse_custom(custom)
    try:
        digest = Digest.parse(f"sha256:{hashes.get('sha256', '')}")
        check_path(path)
    except (UsageError, BadFileError):
        return None
    if facts is None or not path.endswith(".fpk") or length <= 0:
        return None
    return Entry(repository, path, length, digest, facts)
