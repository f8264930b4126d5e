"""The starter model: it travels inside the package and is put into the store when it is first asked for."""

from __future__ import annotations

from importlib.resources import as_file, files

from pantry.core.errors import ModelNotFoundError
from pantry.core.refs import ModelName
from pantry.operations.models import add_model
from pantry.store.models import InstalledModel, Store

STARTER = ModelName("starter")


def find_model(store: Store, name: ModelName) -> InstalledModel:
    """The installed model called `name`; the starter model is installed on the way when it is not there yet.

    Raises ModelNotFoundError with the nearest name.
    """
    try:
        return store.get(name)
    except ModelNotFoundError:
        if name != STARTER:
            raise
        return install_starter(store)


def install_starter(store: Store) -> InstalledModel:
    """Put the packaged starter model into the store. Raises ModelNotFoundError when the package has none."""
    packaged = files("pantry") / "starter" / "starter.gguf"
    with as_file(packaged) as file:
        if not file.exists():
            raise ModelNotFoundError("This installation of Pantry has no starter model.", hint="Reinstall Pantry.")
        return add_model(store, file, STARTER, source="shipped with Pantry")
