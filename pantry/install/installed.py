"""The installed models: adding a file as one, and finding one by name."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pantry.core.errors import UsageError
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.refs import ModelName
from pantry.formats.model_files import model_of_file, model_of_folder
from pantry.install.format_check import check_format
from pantry.install.model_facts import name_from_file, name_from_text
from pantry.install.split_files import whole_model
from pantry.starter import STARTER
from pantry.store.models import InstalledModel, NewPart, Store


def add_model(
    store: Store,
    file: Path,
    name: ModelName | None = None,
    *,
    source: str | None = None,
    progress: Progress | None = None,
) -> InstalledModel:
    """Check a model file and copy it into the store, by default under its file name; parts of a model as one.

    A folder is taken in with the files that an engine needs of it, by default under its own name.

    Raises BadFileError when it is damaged or no model Pantry can run, StorageError when it cannot be read or stored,
    ConflictError when the name is taken by another model.
    """
    source = source or str(file.absolute())
    if file.is_dir():
        return _add_folder(store, file, name or name_from_text(file.absolute().name), source, progress)
    chosen = name or name_from_file(file)
    with whole_model(file, store.blobs.folder, progress) as whole:
        found = model_of_file(whole)
        link = whole != file  # a joined file is nobody else's
        return store.add(
            chosen, whole, format=found.format.name, source=source, facts=found.facts, progress=progress, link=link
        )


def _add_folder(store: Store, folder: Path, name: ModelName, source: str, progress: Progress | None) -> InstalledModel:
    found = model_of_folder(folder)
    for part in found.parts:
        check_format(part.place, part.path)
    parts = [NewPart(part.path, part.role, part.place) for part in found.parts]
    return store.add_parts(name, parts, format=found.format.name, source=source, facts=found.facts, progress=progress)


def model_named(text: str) -> ModelName:
    """The name of a model here, from that name or from the one it was pulled by: `ada/fox:1.0` is `ada-fox:1.0`.

    Raises UsageError.
    """
    publisher, slash, rest = text.strip().partition("/")
    if slash and publisher and rest:
        with contextlib.suppress(UsageError):
            return ModelName.parse(f"{publisher}-{rest}")
    return ModelName.parse(text)


def find_model(paths: Paths, store: Store, name: ModelName) -> InstalledModel:
    """The installed model called `name`; the starter model is installed on the way when it is not there yet.

    Raises ModelNotFoundError with the nearest name, and for the starter what `install_starter` raises. Blocking.
    """
    if name == STARTER and store.find(name) is None:
        from pantry.install.starter import install_starter

        return install_starter(paths)
    return store.get(name)


def installed_models(paths: Paths) -> list[InstalledModel]:
    """All installed models by name."""
    with Store.open(paths) as store:
        return store.list()


def installed_model(paths: Paths, name: str) -> InstalledModel:
    """The model of that name. Raises ModelNotFoundError with the nearest name."""
    with Store.open(paths) as store:
        return find_model(paths, store, model_named(name))


def model_path(paths: Paths, name: str) -> Path:
    """The path of a model's file or folder, digests checked. Raises ModelNotFoundError or VerificationError."""
    with Store.open(paths) as store:
        return store.verified_path(find_model(paths, store, model_named(name)))
