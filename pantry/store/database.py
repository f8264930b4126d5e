"""The state database: SQLite in WAL mode, with numbered migrations.

Several processes may use it at once. Every statement commits by itself unless it runs inside `transaction()`.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.resources
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pantry.core.errors import StorageError
from pantry.core.files import storage_errors

BUSY_TIMEOUT = 10.0  # seconds that a writer waits for another process's write


def now() -> str:
    """The time in UTC as RFC 3339 text, the form every table uses."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


class Database:
    """One connection to the database of a home, migrated to the newest layout when opened."""

    def __init__(self, path: Path) -> None:
        """Open or create the database. Raises StorageError when it cannot be used, or was made by a newer Pantry."""
        self.path = path
        with storage_errors(f"Making the folder {path.parent}"):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._errors():
            self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            path.chmod(0o600)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._migrate()

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> int:
        """Run one writing statement; the number of rows it changed."""
        with self._errors():
            return self._connection.execute(sql, parameters).rowcount

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query."""
        with self._errors():
            return self._connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> sqlite3.Row | None:
        """The first row of a query, or None."""
        with self._errors():
            found: sqlite3.Row | None = self._connection.execute(sql, parameters).fetchone()
            return found

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside take effect together, or none does."""
        with self._errors():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        with self._errors():
            self._connection.execute("COMMIT")

    def _migrate(self) -> None:
        scripts = _migrations()
        if self._version() == len(scripts):
            return
        with self.transaction():
            version = self._version()  # another process may have migrated since
            if version > len(scripts):
                raise StorageError(
                    f"{self.path} was written by a newer Pantry (layout {version}, known up to {len(scripts)}).",
                    hint="Update Pantry: pip install -U pantry-llm",
                )
            for number, script in enumerate(scripts[version:], start=version + 1):
                for statement in _statements(script):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number}")

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"The state database {self.path} cannot be used: {error}.",
                hint="Check that the disk has space and the folder is yours; PANTRY_HOME chooses another folder.",
            ) from error
        except (UnicodeEncodeError, OverflowError) as error:
            raise StorageError(
                f"The state database cannot keep a value: {error}.", hint="Names of files must be text in UTF-8."
            ) from error


def _migrations() -> list[str]:
    """The migration scripts in order; their numbers must be 1, 2, 3, ... without a gap."""
    folder = importlib.resources.files("pantry.store") / "migrations"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [file.read_text() for file in files]


def _statements(script: str) -> list[str]:
    """The statements of a migration. Each ends with a semicolon at the end of a line."""
    without_comments = re.sub(r"--[^\n]*", "", script)
    return [statement for statement in re.split(r";\s*\n", without_comments) if statement.strip()]
