"""Installed packages: sets of files that came together, like a flatpack. Their files are blobs, shared where equal."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pantry.core.errors import ConflictError, NotFoundError, did_you_mean
from pantry.core.refs import Digest, ModelName
from pantry.formats.parts import Role
from pantry.store.blobs import Staged
from pantry.store.database import now
from pantry.store.models import Store
from pantry.store.parts import digest_of_parts, write_parts


@dataclass(frozen=True)
class NewPackage:
    """What is known of a package about to be installed. `contents` is the digest over its files."""

    name: str
    version: str
    kind: str
    summary: str
    contents: Digest
    source: str
    archive: Digest | None = None
    signer: str | None = None
    manifest: dict[str, Any] | None = None


@dataclass(frozen=True)
class Package:
    """An installed package. `size` is the bytes of its files."""

    id: int
    name: str
    version: str
    kind: str
    summary: str
    contents: Digest
    archive: Digest | None
    source: str
    signer: str | None
    manifest: dict[str, Any]
    installed_at: str
    size: int


@dataclass(frozen=True)
class NewFile:
    """One file to install, complete under a temporary name in the store's folder."""

    path: str
    staged: Staged
    executable: bool = False


@dataclass(frozen=True)
class PackageFile:
    """One file of an installed package."""

    path: str
    digest: Digest
    size: int
    executable: bool


@dataclass(frozen=True)
class NewModel:
    """The model that a package brings: its name here, and which of the files it is made of, each with its role."""

    name: ModelName
    parts: Mapping[str, Role]
    format: str
    facts: dict[str, Any]


_SELECT = """SELECT packages.*,
    (SELECT total(size) FROM package_files JOIN blobs USING (digest) WHERE package = id) AS size
    FROM packages"""
_NO_MODEL = "id NOT IN (SELECT package FROM models WHERE package IS NOT NULL)"


class Packages:
    """The packages of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._db = store.database

    def install(self, new: NewPackage, files: Sequence[NewFile], model: NewModel | None = None) -> Package:
        """Take over the files and write everything down, in one step. Installing again replaces the same version.

        A model of the same package under that name makes way; an older version that no model uses any more goes.
        Raises ConflictError when the model's name is taken by something else.
        """
        with self._db.transaction():
            if model is not None:
                parts = [
                    (each.path, model.parts[each.path], each.staged.digest)
                    for each in files
                    if each.path in model.parts
                ]
                self._check_name(model.name, new.name, digest_of_parts((path, digest) for path, _, digest in parts))
            for staged in {file.staged.file: file.staged for file in files}.values():
                self._store.blobs.adopt(staged)
            id = self._write(new, files)
            if model is not None:
                self._write_model(model, id, parts, new.source)
        self._drop_old_versions(new.name, id)
        return self._package(id)

    def get(self, name: str, version: str | None = None) -> Package:
        """A package, the one installed last when no version is named. Raises NotFoundError with the nearest name."""
        found = self.find(name, version)
        if found is None:
            known = [package.name for package in self.list()]
            raise NotFoundError(f"No package {name} {version or ''} is installed.", hint=did_you_mean(name, known))
        return found

    def find(self, name: str, version: str | None = None) -> Package | None:
        """A package or None."""
        where, values = "name = ?", [name]
        if version is not None:
            where, values = "name = ? AND version = ?", [name, version]
        row = self._db.row(f"{_SELECT} WHERE {where} ORDER BY id DESC", values)
        return _package(row) if row else None

    def without_model(self) -> list[Package]:
        """The packages that are not a model: data, recipes, weights that no format knows as a whole model."""
        return [_package(row) for row in self._db.rows(f"{_SELECT} WHERE {_NO_MODEL} ORDER BY name, id")]

    def files(self, package: Package) -> list[PackageFile]:
        """The files of a package by path."""
        sql = """SELECT path, digest, size, executable FROM package_files JOIN blobs USING (digest)
            WHERE package = ? ORDER BY path"""
        return [
            PackageFile(row["path"], Digest.parse(row["digest"]), row["size"], bool(row["executable"]))
            for row in self._db.rows(sql, (package.id,))
        ]

    def list(self, kind: str | None = None) -> list[Package]:
        """All packages by name and age."""
        where, values = ("WHERE kind = ?", [kind]) if kind else ("", [])
        return [_package(row) for row in self._db.rows(f"{_SELECT} {where} ORDER BY name, id", values)]

    def remove(self, package: Package) -> int:
        """Forget a package, its models, and the files that nothing else uses; the bytes freed."""
        files = self.files(package)
        parts = self._db.rows(
            "SELECT model_parts.digest FROM model_parts JOIN models USING (name, tag) WHERE package = ?", (package.id,)
        )
        with self._db.transaction():
            self._db.execute("DELETE FROM models WHERE package = ?", (package.id,))
            self._db.execute("DELETE FROM packages WHERE id = ?", (package.id,))
        self._store.drop_unused_folders()
        digests = {file.digest for file in files} | {Digest.parse(row["digest"]) for row in parts}
        return sum(self._store.drop_unused(digest) for digest in digests)

    def _package(self, id: int) -> Package:
        row = self._db.row(f"{_SELECT} WHERE id = ?", (id,))
        if row is None:
            raise NotFoundError("The package was removed by another process.", hint="Pull it again.")
        return _package(row)

    def _check_name(self, name: ModelName, package: str, digest: Digest) -> None:
        sql = """SELECT models.digest, packages.name AS package FROM models LEFT JOIN packages ON packages.id = package
            WHERE models.name = ? AND tag = ?"""
        row = self._db.row(sql, (name.name, name.tag))
        if row is not None and row["package"] != package and row["digest"] != str(digest):
            raise ConflictError(
                f"There is already a model called {name!s} that came from elsewhere.",
                hint=f"Choose another name with --name, or remove it first: pantry rm {name}",
            )

    def _write(self, new: NewPackage, files: Sequence[NewFile]) -> int:
        old = self._db.row("SELECT id FROM packages WHERE name = ? AND version = ?", (new.name, new.version))
        kept = self._db.rows("SELECT name, tag FROM models WHERE package = ?", (old["id"],)) if old else []
        self._db.execute("DELETE FROM packages WHERE name = ? AND version = ?", (new.name, new.version))
        self._db.execute(
            "INSERT INTO packages (name, version, kind, summary, contents, archive, source, signer, manifest,"
            " installed_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                new.name,
                new.version,
                new.kind,
                new.summary,
                str(new.contents),
                str(new.archive) if new.archive else None,
                new.source,
                new.signer,
                json.dumps(new.manifest or {}),
                now(),
            ),
        )
        row = self._db.row("SELECT id FROM packages WHERE name = ? AND version = ?", (new.name, new.version))
        id = int(row["id"]) if row else 0
        for file in files:
            self._db.execute(
                "INSERT INTO package_files (package, path, digest, executable) VALUES (?, ?, ?, ?)",
                (id, file.path, str(file.staged.digest), int(file.executable)),
            )
        for model in kept:
            self._db.execute(
                "UPDATE models SET package = ? WHERE name = ? AND tag = ?", (id, model["name"], model["tag"])
            )
        return id

    def _write_model(
        self, model: NewModel, package: int, parts: Sequence[tuple[str, Role, Digest]], source: str
    ) -> None:
        digest = digest_of_parts((path, digest) for path, _, digest in parts)
        self._db.execute("DELETE FROM models WHERE name = ? AND tag = ?", (model.name.name, model.name.tag))
        self._db.execute(
            "INSERT INTO models (name, tag, digest, format, source, facts, added_at, package)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                model.name.name,
                model.name.tag,
                str(digest),
                model.format,
                source,
                json.dumps(model.facts),
                now(),
                package,
            ),
        )
        write_parts(self._db, model.name, parts)

    def _drop_old_versions(self, name: str, newest: int) -> None:
        sql = f"{_SELECT} WHERE name = ? AND kind = 'model' AND id <> ? AND id NOT IN"
        unused = " (SELECT package FROM models WHERE package IS NOT NULL)"
        for row in self._db.rows(sql + unused, (name, newest)):
            self.remove(_package(row))


def _package(row: sqlite3.Row) -> Package:
    return Package(
        row["id"],
        row["name"],
        row["version"],
        row["kind"],
        row["summary"],
        Digest.parse(row["contents"]),
        Digest.parse(row["archive"]) if row["archive"] else None,
        row["source"],
        row["signer"],
        json.loads(row["manifest"]),
        row["installed_at"],
        int(row["size"]),
    )
