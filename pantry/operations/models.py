"""Adding model files to the store, and what a model file says of itself."""

from __future__ import annotations

import contextlib

from pantry.client.connection import ServiceConnection
from pantry.core.errors import ServiceUnavailableError
from pantry.core.paths import Paths
from pantry.install.installed import model_named
from pantry.store.models import Store
from pantry.store.packages import Packages


def remove_model(paths: Paths, name: str) -> int:
    """Unload a model if a service runs, forget it, and delete its file unless another uses it; the bytes freed.

    A package without a model that is called so goes as well.

    Raises ModelNotFoundError, or ConflictError while the model writes an answer.
    """
    from pantry.operations.packages import package_without_model

    with Store.open(paths) as store:
        if (package := package_without_model(store, name)) is not None:
            return Packages(store).remove(package)
        parsed = model_named(name)
        store.get(parsed)
        with contextlib.suppress(ServiceUnavailableError):
            ServiceConnection(paths).post("/admin/unload", {"model": str(parsed)})
        return store.remove(parsed)
