"""Installed packages: list them, remove them, put their files into a folder."""

from __future__ import annotations

from pathlib import Path

from pantry.core.errors import ConflictError
from pantry.core.files import staged_file, storage_errors
from pantry.core.paths import Paths
from pantry.store.models import Store
from pantry.store.packages import Package, PackageFile, Packages


def installed_packages(paths: Paths, kind: str | None = None) -> list[Package]:
    """All installed packages by name, or those of one kind."""
    with Store.open(paths) as store:
        return Packages(store).list(kind)


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
