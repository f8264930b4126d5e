"""The installed models: a name, the digest of its file, and the facts read from it when it was added."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pantry.core.errors import ConflictError, ModelNotFoundError, did_you_mean
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.core.refs import Digest, ModelName
from pantry.store.blobs import Blobs
from pantry.store.database import Database, now


@dataclass(frozen=True)
class InstalledModel:
    """One installed model. `size` is in bytes; `facts` are those of the file's header (architecture, context, ...)."""

    name: ModelName
    digest: Digest
    size: int
    format: str
    source: str
    added_at: str
    facts: dict[str, Any] = field(default_factory=dict)


_COLUMNS = """SELECT name, tag, models.digest, size, format, source, facts, added_at
    FROM models JOIN blobs ON blobs.digest = models.digest"""


class Store:
    """What is on this machine: the models and their blobs."""

    def __init__(self, database: Database, blob_folder: Path) -> None:
        self.database = database
        self.blobs = Blobs(blob_folder, database)

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
        """Copy `file` into the store under `name`. The same content again is not an error.

        With `link` the store's file is the same file on disk, where that is possible; only for files that nobody ever
        writes into.

        Raises ConflictError when the name is taken by other content, StorageError when it cannot be stored.
        """
        with self.blobs.staged_copy(file, progress, link=link) as staged, self.database.transaction():
            self._check_name_is_free(name, staged.digest)
            self.blobs.adopt(staged)
            self.database.execute(
                "INSERT OR IGNORE INTO models (name, tag, digest, format, source, facts, added_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (name.name, name.tag, str(staged.digest), format, source, json.dumps(facts), now()),
            )
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
                hint=f"Its files: pantry package files {row['name']}. Of models, GGUF files run.",
            )

    def find(self, name: ModelName) -> InstalledModel | None:
        """The model of that name, or None."""
        row = self.database.row(f"{_COLUMNS} WHERE name = ? AND tag = ?", (name.name, name.tag))
        return _model(row) if row else None

    def list(self) -> list[InstalledModel]:
        """All installed models by name."""
        return [_model(row) for row in self.database.rows(f"{_COLUMNS} ORDER BY name, tag")]

    def remove(self, name: ModelName) -> int:
        """Forget a model, and delete what it alone uses: its blob, and the package it came from; the bytes freed."""
        model = self.get(name)
        with self.database.transaction():
            row = self.database.row("SELECT package FROM models WHERE name = ? AND tag = ?", (name.name, name.tag))
            self.database.execute("DELETE FROM models WHERE name = ? AND tag = ?", (name.name, name.tag))
            unused = {model.digest, *self._forget_package(row["package"] if row else None)}
        return sum(self.drop_unused(digest) for digest in unused)

    def _forget_package(self, package: int | None) -> tuple[Digest, ...]:
        """Forget a package that no model is left of; the digests of its files."""
        if package is None or self.database.row("SELECT 1 FROM models WHERE package = ?", (package,)):
            return ()
        rows = self.database.rows("SELECT digest FROM package_files WHERE package = ?", (package,))
        self.database.execute("DELETE FROM packages WHERE id = ?", (package,))
        return tuple(Digest.parse(row["digest"]) for row in rows)

    def verified_file(self, model: InstalledModel) -> Path:
        """The path of the model's file, its digest checked. Raises NotFoundError or VerificationError."""
        return self.blobs.verified_path(model.digest)

    def drop_unused(self, digest: Digest) -> int:
        """Delete a blob unless a model or a package uses it; the bytes freed."""
        used = "SELECT 1 FROM models WHERE digest = :d UNION ALL SELECT 1 FROM package_files WHERE digest = :d"
        with self.database.transaction():
            if self.database.row(used, {"d": str(digest)}):
                return 0
            return self.blobs.remove(digest)


def _model(row: sqlite3.Row) -> InstalledModel:
    return InstalledModel(
        ModelName(row["name"], row["tag"]),
        Digest.parse(row["digest"]),
        row["size"],
        row["format"],
        row["source"],
        row["added_at"],
        json.loads(row["facts"]),
    )
