"""What fits into this machine's memory, and how fast it would run there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pantry.catalogue.lookup import Catalogue
from pantry.core.errors import ModelNotFoundError, UsageError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.engines.machine import Machine
from pantry.formats.kinds import format_of
from pantry.install.installed import find_model
from pantry.selection.fit import Fit, fit_entry, fit_file, fit_installed
from pantry.store.models import InstalledModel, Store


def fit_named(
    paths: Paths,
    catalogue: Catalogue,
    names: Sequence[str],
    machine: Machine,
    *,
    cache_type: str = "f16",
    parallel: int = 1,
) -> list[Fit]:
    """Fits for names of installed models, files, or models of the catalogue. Raises NotFoundError for others."""
    found = []
    with Store.open(paths) as store:
        for name in names:
            model = _installed(paths, store, name)
            if model is not None:
                found.append(fit_installed(paths, store, model, machine, cache_type=cache_type, parallel=parallel))
            elif (kind := format_of(name)) is not None and kind.tensors:
                found.append(fit_file(Path(name), machine, cache_type=cache_type, parallel=parallel))
            else:
                found.append(fit_entry(catalogue.model(name), machine, cache_type=cache_type, parallel=parallel))
    return found


def _installed(paths: Paths, store: Store, name: str) -> InstalledModel | None:
    """The installed model of that name, the starter model included; None when there is none."""
    try:
        return find_model(paths, store, ModelName.parse(name))
    except (ModelNotFoundError, UsageError):
        return None
