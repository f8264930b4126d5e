"""The model that ships: unboxed at first use, by the path that every flatpack goes."""

from __future__ import annotations

from importlib.resources import as_file, files

from pantry.core.errors import ModelNotFoundError
from pantry.core.locks import locked
from pantry.core.paths import Paths
from pantry.flatpack.signing.keys import load_public_key
from pantry.flatpack.signing.trust import Rule, Trust
from pantry.install.flatpack import InstallSource, install_flatpack
from pantry.starter import FLATPACK, NAME, SIGNER, STARTER
from pantry.store.models import InstalledModel, Store


def starter_trust() -> Trust:
    """Trust in the key that ships, for the flatpack that ships, whatever the user's rules are."""
    key = load_public_key((files("pantry.starter") / SIGNER).read_bytes(), SIGNER)
    return Trust("enforce", (Rule(name="Pantry", pattern=NAME, keys=(key.id,)),), {key.id: key})


def install_starter(paths: Paths) -> InstalledModel:
    """The starter model, unboxed into the store unless it is there; two first uses at once are one unboxing. Blocking.

    Raises ModelNotFoundError when the package has none, PolicyRefusedError when the user's policy does not want it,
    VerificationError when its file was changed, StorageError.
    """
    with locked(paths.partial / "starter.lock"), Store.open(paths) as store:
        if (found := store.find(STARTER)) is not None:
            return found
        with as_file(files("pantry.starter") / FLATPACK) as file:
            if not file.is_file():
                raise ModelNotFoundError("This installation of Pantry has no starter model.", hint="Reinstall Pantry.")
            arrival = InstallSource("shipped with Pantry", name=STARTER, shipped=True)
            install_flatpack(paths, store, file, arrival, lambda step, words: None, starter_trust())
        return store.get(STARTER)
