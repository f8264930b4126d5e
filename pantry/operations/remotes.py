"""Models at a provider beside those of this machine: adding them. Whether they may be used is the policy's say."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pantry.catalogue.lookup import Catalogue
from pantry.core.errors import PolicyRefusedError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.engines.provider import FORMAT, Provider, keep_key
from pantry.policy.file import load_policy
from pantry.store.models import InstalledModel, Store


def add_remote(
    paths: Paths, name: ModelName, provider: Provider, *, chat: bool = True, context: int | None = None
) -> InstalledModel:
    """Write down a model at a provider under a name of this machine.

    Raises PolicyRefusedError where the policy allows no remote models, ConflictError when the name is taken.
    """
    check_remote_allowed(paths)
    facts = {"chat": chat, "provider": provider.host, "title": provider.model}
    if context is not None:
        facts["context"] = context
    with Store.open(paths) as store, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.remote"
        file.write_bytes(provider.to_json())
        return store.add(name, file, format=FORMAT, source=provider.url, facts=facts)


def keep_provider_key(paths: Paths, name: str, key: str) -> None:
    """Put a provider's key into the system keyring, once the policy allows remote models. Raises as add_remote does."""
    check_remote_allowed(paths)
    keep_key(name, key)


def check_remote_allowed(paths: Paths) -> None:
    """Raises PolicyRefusedError where the policy allows no models at a provider."""
    catalogue = Catalogue.open(paths)
    try:
        allowed = load_policy(paths, catalogue).remote
    finally:
        catalogue.close()
    if not allowed:
        raise PolicyRefusedError(
            "The policy allows no models at a provider.", hint="Allow them with: pantry policy set remote=true"
        )
