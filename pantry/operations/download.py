"""The one way from what an app or a link names to an installed model."""

from __future__ import annotations

from collections.abc import Callable

from pantry.catalogue.lookup import Catalogue
from pantry.core.errors import NotFoundError, UsageError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.operations.pull import Options, Pulled, pull
from pantry.repository.refs import FileRef, NamedRef, parse_ref
from pantry.store.models import InstalledModel, Store

Progress = Callable[[int, int], None]
"""Told how many bytes came and how many are expected."""
USUAL_QUANTISATION = "Q4_K_M"


def download_model(paths: Paths, name: str, url: str | None, progress: Progress) -> InstalledModel:
    """Fetch, verify and install a model by its name in the repositories or the catalogue, or from an address.

    It is installed under `name`. Callers are strangers: a path of this machine is no model. Blocking. Raises
    UsageError, NotFoundError, and all that a pull raises.
    """
    wanted = ModelName.parse(name)
    pulled = _from_address(paths, wanted, url, progress) if url is not None else _by_name(paths, wanted, progress)
    if pulled.model is None:
        raise UsageError(f"{pulled.package.name} is installed, but it is no model that can run.")
    with Store.open(paths) as store:
        return store.get(pulled.model)


def _from_address(paths: Paths, name: ModelName, url: str, progress: Progress) -> Pulled:
    if isinstance(parse_ref(url), FileRef | NamedRef):
        raise UsageError(f"{url[:120]!r} is no address.", hint="It begins with https:// or hf://.")
    return pull(paths, url, Options(name=name), progress=progress)


def _by_name(paths: Paths, name: ModelName, progress: Progress) -> Pulled:
    """From the configured repositories, else from where the catalogue says that the model's files are."""
    if not isinstance(parse_ref(str(name)), NamedRef):
        raise UsageError(f"{str(name)!r} is not the name of a model in a repository.")
    try:
        return pull(paths, str(name), Options(name=name), progress=progress)
    except NotFoundError:
        place = _place_in_catalogue(paths, name)
        if place is None:
            raise
        return pull(paths, place, Options(name=name), progress=progress)


def _place_in_catalogue(paths: Paths, name: ModelName) -> str | None:
    catalogue = Catalogue.open(paths)
    try:
        entry = catalogue.find_model(name.name)
    finally:
        catalogue.close()
    if entry is None:
        return None
    for file in entry.files:
        if file.parts == 1 and file.file.endswith(".gguf"):
            return f"hf://{file.repo}/{file.file}"
    return f"hf://{entry.gguf_repos[0]}:{USUAL_QUANTISATION}" if entry.gguf_repos else None
