"""Installed packages: list them, remove them, put their files into a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pantry.core.errors import ConflictError, UsageError
from pantry.core.files import staged_file, storage_errors
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.repository.fetch import Fetcher
from pantry.store.garbage import Damage, collect, verify_all
from pantry.store.models import Store
from pantry.store.packages import Package, PackageFile, Packages


def installed_packages(paths: Paths, kind: str | None = None) -> list[Package]:
    """All installed packages by name, or those of one kind."""
    with Store.open(paths) as store:
        return Packages(store).list(kind)


def packages_without_model(paths: Paths) -> list[Package]:
    """The installed packages that hold nothing an engine here runs."""
    with Store.open(paths) as store:
        return Packages(store).without_model()


def package_without_model(store: Store, text: str) -> Package | None:
    """The package without a model that is called so: by its name, or by the last part of it; None if a model is."""
    called = text.strip().lower().replace("hf://", "hf.co/")
    found = [each for each in Packages(store).without_model() if f"/{each.name.lower()}".endswith(f"/{called}")]
    with contextlib.suppress(UsageError):
        if store.find(ModelName.parse(called)) is not None:
            return None
    return found[-1] if found else None


def shown_package(paths: Paths, text: str) -> tuple[Package, list[PackageFile]] | None:
    """The package without a model that is called so, and its files; None for anything else."""
    with Store.open(paths) as store:
        package = package_without_model(store, text)
        return (package, Packages(store).files(package)) if package else None


def package_files(paths: Paths, name: str, version: str | None = None) -> tuple[Package, list[PackageFile]]:
    """A package and its files. Raises NotFoundError with the nearest name."""
    with Store.open(paths) as store:
        package = Packages(store).get(name, version)
        return package, Packages(store).files(package)


def remove_package(paths: Paths, name: str, version: str | None = None) -> int:
    """Forget a package, its models, and the files nothing else uses; the bytes freed. Raises NotFoundError."""
    with Store.open(paths) as store:
        packages = Packages(store)
        return packages.remove(packages.get(name, version))


def copy_package(paths: Paths, name: str, folder: Path, version: str | None = None) -> Package:
    """Copy the files of a package into a new folder, each with its digest checked.

    Raises NotFoundError, ConflictError when the folder holds something, VerificationError, StorageError.
    """
    with Store.open(paths) as store:
        package = Packages(store).get(name, version)
        with storage_errors(f"Copying to {folder}"):
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise ConflictError(f"{folder} is not an empty folder.", hint="Name one that does not exist yet.")
        for file in Packages(store).files(package):
            source = store.blobs.verified_path(file.digest)
            target = folder / file.path
            with source.open("rb") as opened, staged_file(target, mode=0o755 if file.executable else 0o644) as out:
                while data := opened.read(1 << 20):
                    out.write(data)
        return package


KEEP_PARTIAL = 7 * 24 * 3600.0  # seconds an unfinished download is kept to be continued


@dataclass(frozen=True)
class Cleaned:
    """What was removed: files of the store and their bytes, and bytes of unfinished downloads."""

    files: int
    size: int
    partial: int


def collect_garbage(paths: Paths, *, everything: bool = False) -> Cleaned:
    """Delete what nothing uses, and downloads nobody continued for a week; `everything`: younger ones too.

    What a model, a package or a running download uses stays. Raises StorageError.
    """
    with Store.open(paths) as store:
        freed = collect(store)
    partial = Fetcher(paths.partial).clean(0.0 if everything else KEEP_PARTIAL)
    return Cleaned(freed.files, freed.size, partial)


def verify_everything(paths: Paths, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read every file of the store and name those that are damaged; `pantry pull` mends them."""
    with Store.open(paths) as store:
        return verify_all(store, progress)
