"""Where a model can be obtained that no repository offers: what the catalogue says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.schema import ModelEntry
from pantry.core.errors import NotFoundError, nearest
from pantry.core.paths import Paths
from pantry.core.refs import Digest
from pantry.formats.kinds import is_whole_model
from pantry.repository.index import Index
from pantry.repository.refs import HubRef, NamedRef
from pantry.store.database import Database


@dataclass(frozen=True)
class PlaceKnown:
    """A place that the catalogue knows: the entry's id, where its file is, and the digest it must have."""

    entry: str
    ref: HubRef
    digest: Digest | None = None


def place_in_catalogue(paths: Paths, ref: NamedRef) -> PlaceKnown:
    """Where the catalogue says that files of this name are; a version names the quantisation.

    Raises NotFoundError with the nearest name of repositories and catalogue, or with why there is no such place.
    """
    catalogue = Catalogue.open(paths)
    try:
        entry = catalogue.model(ref.name)
    except NotFoundError as unknown:
        with Database(paths.database) as database:
            names = Index(database).names()
        near, hint = nearest(ref.name, names), unknown.hint
        if not names and not (hint or "").startswith("Did you mean"):
            hint = "Add a repository: pantry repo add NAME URL --root FILE"
        raise NotFoundError(
            f"No repository offers {ref.name!r}, and the catalogue does not know it.",
            hint=f"Did you mean {near!r}?" if near else hint,
        ) from None
    finally:
        catalogue.close()
    found = _place(entry, ref.version)
    if found is None:
        why = "runs at a provider" if entry.remote else f"names no place to get {ref.version or 'it'} from"
        raise NotFoundError(
            f"No repository offers {ref.name!r}, and the catalogue's entry {entry.id} {why}.",
            hint="A model of the Hugging Face hub is pulled as hf://ORG/REPO.",
        )
    return found


def _place(entry: ModelEntry, quantisation: str | None) -> PlaceKnown | None:
    if entry.remote:
        return None
    for file in entry.files:
        if is_whole_model(file.file) and (quantisation is None or _has(file.file, quantisation)):
            return PlaceKnown(entry.id, HubRef(file.repo, file=file.file), Digest.parse(f"sha256:{file.sha256}"))
    if entry.gguf_repos:
        return PlaceKnown(entry.id, HubRef(entry.gguf_repos[0], quantisation=quantisation))
    return None


def _has(file: str, quantisation: str) -> bool:
    return re.search(rf"[-._/]{re.escape(quantisation.lower())}[-._]", file.lower()) is not None
