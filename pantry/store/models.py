"""The installed models: a name, the verified files it is made of, and the facts read from them when it was added."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pantry.core.errors import ConflictError, ModelNotFoundError, did_you_mean
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.refs import Digest, ModelName
from pantry.formats.kinds import ModelFormat, format_called
from pantry.formats.parts import PlacedPart, Role
from pantry.store.blobs import Blobs
from pantry.store.database import Database, now
from pantry.store.folders import is_being_made, link_parts, remove_links
from pantry.store.parts import ModelPart, digest_of_parts, folder_name, parts_by_model, parts_of, write_parts


@dataclass(frozen=True)
class InstalledModel:
    """One installed model. `digest` names what it is made of: that of its file where it is one, else over its parts.

    `size` is in bytes; `facts` are those of the files' headers (architecture, context, ...).
    """

    name: ModelName
    digest: Digest
    size: int
    format: str
    source: str
    added_at: str
    facts: dict[str, Any] = field(default_factory=dict)
    parts: tuple[ModelPart, ...] = ()

    @property
    def kind(self) -> ModelFormat:
        """Its format, to be asked what can be done with it."""
        return format_called(self.format)

    @property
    def remote(self) -> bool:
        """Whether it runs at a provider; its file then only describes where."""
        return self.kind.remote

    @property
    def weights(self) -> Digest:
        """The digest of its first file of weights, by which others know the model whatever came with it."""
        return next((part.digest for part in self.parts if part.role == "weights"), self.digest)


@dataclass(frozen=True)
class NewPart:
    """A file to be copied into the store as part of a model."""

    path: str
    role: Role
    file: Path


_COLUMNS = "SELECT name, tag, digest, format, source, facts, added_at FROM models"


class Store:
    """What is on this machine: the models and their blobs."""

    def __init__(self, database: Database, blob_folder: Path) -> None:
        self.database = database
        self.blobs = Blobs(blob_folder, database)
        self.folders = blob_folder.with_name("folders")

    @classmethod
    def open(cls, paths: Paths) -> Store:
        """Open the store of a home, creating it when it does not exist. Raises StorageError."""
        return cls(Database(paths.database), paths.blobs)

    def close(self) -> None:
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(
        self,
        name: ModelName,
        file: Path,
        *,
        format: str,
        source: str,
        facts: dict[str, Any],
        progress: Progress | None = None,
        link: bool = False,
    ) -> InstalledModel:
        """Copy a model that is one file into the store under `name`; as `add_parts`."""
        parts = [NewPart(f"model.{format}", "weights", file)]
        return self.add_parts(name, parts, format=format, source=source, facts=facts, progress=progress, link=link)

    def add_parts(
        self,
        name: ModelName,
        parts: Sequence[NewPart],
        *,
        format: str,
        source: str,
        facts: dict[str, Any],
        progress: Progress | None = None,
        link: bool = False,
    ) -> InstalledModel:
        """Copy the files of a model into the store under `name`. The same content again is not an error.

        With `link` the store's files are the same files on disk, where that is possible; only for files that nobody
        ever writes into. `progress` counts each file by itself.

        Raises ConflictError when the name is taken by other content, StorageError when it cannot be stored.
        """
        with ExitStack() as held:
            staged = [held.enter_context(self.blobs.staged_copy(part.file, progress, link=link)) for part in parts]
            made = [(part.path, part.role, each.digest) for part, each in zip(parts, staged, strict=True)]
            digest = digest_of_parts((path, digest) for path, _, digest in made)
            held.enter_context(self.database.transaction())
            self._check_name_is_free(name, digest)
            for each in {each.digest: each for each in staged}.values():
                self.blobs.adopt(each)
            new = self.database.execute(
                "INSERT OR IGNORE INTO models (name, tag, digest, format, source, facts, added_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name.name, name.tag, str(digest), format, source, json.dumps(facts), now()),
            )
            if new:
                write_parts(self.database, name, made)
        return self.get(name)

    def _check_name_is_free(self, name: ModelName, digest: Digest) -> None:
        row = self.database.row("SELECT digest FROM models WHERE name = ? AND tag = ?", (name.name, name.tag))
        if row is not None and row["digest"] != str(digest):
            raise ConflictError(
                f"There is already a model called {name!s} with other content ({Digest.parse(row['digest']).short}).",
                hint=f"Choose another name with --name, or remove it first: pantry rm {name}",
            )

    def get(self, name: ModelName) -> InstalledModel:
        """The model of that name. Raises ModelNotFoundError with the nearest name."""
        found = self.find(name)
        if found is None:
            self._check_packages(name)
            known = [str(model.name) for model in self.list()]
            listed = f"Installed: {', '.join(known[:5])}." if known else "No model is installed yet."
            raise ModelNotFoundError(f"There is no model {str(name)!r}.", hint=did_you_mean(str(name), known, listed))
        return found

    def _check_packages(self, name: ModelName) -> None:
        """Raises ModelNotFoundError when something is installed under the name that is not a model an engine runs."""
        sql = """SELECT name, kind FROM packages WHERE '/' || lower(name) LIKE '%/' || :name
            AND id NOT IN (SELECT package FROM models WHERE package IS NOT NULL)"""
        row = self.database.row(sql, {"name": name.name})
        if row is not None:
            raise ModelNotFoundError(
                f"{name} is installed as {row['name']}, a {row['kind']} without a file that an engine here runs.",
                hint=f"Its files: pantry package files {row['name']}",
            )

    def find(self, name: ModelName) -> InstalledModel | None:
        """The model of that name, or None."""
        row = self.database.row(f"{_COLUMNS} WHERE name = ? AND tag = ?", (name.name, name.tag))
        return _model(row, parts_of(self.database, name)) if row else None

    def list(self) -> list[InstalledModel]:
        """All installed models by name."""
        parts = parts_by_model(self.database)
        rows = self.database.rows(f"{_COLUMNS} ORDER BY name, tag")
        return [_model(row, parts.get((row["name"], row["tag"]), ())) for row in rows]

    def remove(self, name: ModelName) -> int:
        """Forget a model, and delete what it alone uses: its files, and the package it came from; the bytes freed."""
        model = self.get(name)
        with self.database.transaction():
            row = self.database.row("SELECT package FROM models WHERE name = ? AND tag = ?", (name.name, name.tag))
            self.database.execute("DELETE FROM models WHERE name = ? AND tag = ?", (name.name, name.tag))
            unused = {*(part.digest for part in model.parts), *self._forget_package(row["package"] if row else None)}
        self.drop_unused_folders()
        return sum(self.drop_unused(digest) for digest in unused)

    def _forget_package(self, package: int | None) -> tuple[Digest, ...]:
        """Forget a package that no model is left of; the digests of its files."""
        if package is None or self.database.row("SELECT 1 FROM models WHERE package = ?", (package,)):
            return ()
        rows = self.database.rows("SELECT digest FROM package_files WHERE package = ?", (package,))
        self.database.execute("DELETE FROM packages WHERE id = ?", (package,))
        return tuple(Digest.parse(row["digest"]) for row in rows)

    def verified_file(self, model: InstalledModel) -> Path:
        """The path of the model's first file of weights, its digest checked. Raises as `verified_parts`."""
        return self.blobs.verified_path(model.weights)

    def verified_parts(self, model: InstalledModel) -> tuple[PlacedPart, ...]:
        """All files of the model where they lie, their digests checked.

        Raises NotFoundError when one is gone, VerificationError when one changed.
        """
        return tuple(PlacedPart(part.path, part.role, self.blobs.verified_path(part.digest)) for part in model.parts)

    def verified_path(self, model: InstalledModel) -> Path:
        """The model's file, or for one of several files a folder of links to them, all digests checked.

        Raises as `verified_parts`, and StorageError.
        """
        parts = self.verified_parts(model)
        if len(parts) == 1:
            return parts[0].place
        folder = self.folders / folder_name(model.parts)
        if not all((folder / part.path).exists() for part in parts):  # not yet made, or the home was moved since
            remove_links(folder)
            link_parts(parts, folder)
        return folder

    def drop_unused_folders(self) -> None:
        """Remove the folders of links that belong to no model any more."""
        folders = list(self.folders.glob("*"))  # looked at first: the model of one made since is not known below
        known = {folder_name(parts) for parts in parts_by_model(self.database).values()}
        for folder in folders:
            if folder.name not in known and not is_being_made(folder):
                remove_links(folder)

    def drop_unused(self, digest: Digest) -> int:
        """Delete a blob unless a model or a package uses it; the bytes freed."""
        used = "SELECT 1 FROM model_parts WHERE digest = :d UNION ALL SELECT 1 FROM package_files WHERE digest = :d"
        with self.database.transaction():
            if self.database.row(used, {"d": str(digest)}):
                return 0
            return self.blobs.remove(digest)


def _model(row: sqlite3.Row, parts: tuple[ModelPart, ...]) -> InstalledModel:
    return InstalledModel(
        ModelName(row["name"], row["tag"]),
        Digest.parse(row["digest"]),
        sum(part.size for part in parts),
        row["format"],
        row["source"],
        row["added_at"],
        json.loads(row["facts"]),
        parts,
    )
