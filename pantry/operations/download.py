"""The one way from what an app or a link names to an installed model."""

from __future__ import annotations

from collections.abc import Callable

from pantry.core.errors import UsageError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.operations.pull import Options, Pulled, pull
from pantry.repository.refs import FileRef, NamedRef, parse_ref
from pantry.store.models import InstalledModel, Store

Progress = Callable[[int, int], None]
"""Told how many bytes came and how many are expected."""


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
    return pull(paths, str(name), Options(name=name), progress=progress)
