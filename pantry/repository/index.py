"""What the repositories offer, in the state database: for search, for choosing a version, and for use offline."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from pantry.core.refs import Digest
from pantry.repository.entry import Custom, Entry, Snapshot, order_of
from pantry.store.database import Database, now

_COLUMNS = "repository, path, length, digest, facts"
MAX_WEIGHED = 10_000
"""Matches of a search that are put in the order of how well they fit."""


@dataclass(frozen=True)
class State:
    """When a repository was last looked at, and what its metadata said of themselves."""

    name: str
    root_version: int
    version: int
    expires: str
    refreshed_at: str
    entries: int


@dataclass(frozen=True)
class Query:
    """What to look for. Words must all occur, as beginnings of words; `max_memory` is in bytes."""

    words: tuple[str, ...] = ()
    kind: str | None = None
    tags: tuple[str, ...] = ()
    licences: frozenset[str] | None = None
    """If given, only entries under exactly one of these licence texts."""
    max_memory: int | None = None
    repository: str | None = None


class Index:
    """The entries of all repositories."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def replace(self, snapshot: Snapshot) -> None:
        """Take over what a repository offers now; only what changed is written.

        A version of signed metadata never changes: where it is the one that is here, so are its entries.
        """
        state = self.states().get(snapshot.repository)
        here = (state.root_version, state.version, state.entries) if state else None
        if here == (snapshot.root_version, snapshot.version, len(snapshot.entries)):
            self._write_state(snapshot)
            return
        known = {
            row["path"]: (row["id"], row["digest"], row["facts"])
            for row in self._db.rows(
                "SELECT id, path, digest, facts FROM repository_entries WHERE repository = ?", (snapshot.repository,)
            )
        }
        offered = {entry.path: (entry, _facts(entry)) for entry in snapshot.entries}
        changed = [
            (entry, facts)
            for path, (entry, facts) in offered.items()
            if path not in known or known[path][1:] != (str(entry.digest), facts)
        ]
        gone = [id for path, (id, _, _) in known.items() if path not in offered]
        gone += [known[entry.path][0] for entry, _ in changed if entry.path in known]
        with self._db.transaction():
            self._write_state(snapshot)
            for id in gone:
                self._db.execute("DELETE FROM repository_entries WHERE id = ?", (id,))
                self._db.execute("DELETE FROM repository_words WHERE rowid = ?", (id,))
            for entry, facts in changed:
                self._write(entry, facts)

    def forget(self, repository: str) -> None:
        """Forget everything of a repository."""
        of = "SELECT id FROM repository_entries WHERE repository = ?"
        with self._db.transaction():
            self._db.execute(f"DELETE FROM repository_words WHERE rowid IN ({of})", (repository,))  # noqa: S608
            self._db.execute("DELETE FROM repository_states WHERE name = ?", (repository,))

    def states(self) -> dict[str, State]:
        """The repositories that were looked at, by name."""
        count = "(SELECT count(*) FROM repository_entries WHERE repository = repository_states.name)"
        sql = f"SELECT *, {count} AS entries FROM repository_states"  # noqa: S608
        columns = ("name", "root_version", "version", "expires", "refreshed_at", "entries")
        return {row["name"]: State(*(row[column] for column in columns)) for row in self._db.rows(sql)}

    def named(self, name: str, repository: str | None = None) -> list[Entry]:
        """All versions of a name, newest first; of equal ones, those of the repository that comes first."""
        sql = f"SELECT {_COLUMNS} FROM repository_entries WHERE name = ?"  # noqa: S608
        rows = self._db.rows(sql + (" AND repository = ?" if repository else ""), (name, *filter(None, [repository])))
        return sorted((_entry(row) for row in rows), key=lambda entry: order_of(entry.version), reverse=True)

    def names(self) -> list[str]:
        """Every name on offer."""
        return [row["name"] for row in self._db.rows("SELECT DISTINCT name FROM repository_entries ORDER BY name")]

    def search(self, query: Query, limit: int = 100) -> list[Entry]:
        """What matches, best first: by how well the words fit, then by name and newest version.

        Words that more than MAX_WEIGHED entries have say little, and to weigh them all takes long: these come by name.
        """
        where, values = _conditions(query)
        source, order = "repository_entries", "name, id DESC"
        if query.words:
            text = " ".join('"' + word.replace('"', "") + '"*' for word in query.words)
            source = "repository_words JOIN repository_entries ON repository_entries.id = repository_words.rowid"
            where, values = ["repository_words MATCH ?", *where], [text, *values]
            order = f"{'rank, ' if self._are_rare(text) else ''}name, repository_entries.id DESC"
        sql = f"SELECT {_COLUMNS} FROM {source} WHERE {' AND '.join(where) or '1'} ORDER BY {order} LIMIT ?"  # noqa: S608
        return [_entry(row) for row in self._db.rows(sql, (*values, limit))]

    def _are_rare(self, text: str) -> bool:
        some = "SELECT 1 FROM repository_words WHERE repository_words MATCH ? LIMIT ?"
        (found,) = self._db.rows(f"SELECT count(*) FROM ({some})", (text, MAX_WEIGHED + 1))[0]  # noqa: S608
        return bool(found <= MAX_WEIGHED)

    def licences(self) -> list[str]:
        """Every licence text of a model on offer."""
        sql = "SELECT DISTINCT licence FROM repository_entries WHERE licence IS NOT NULL"
        return [row["licence"] for row in self._db.rows(sql)]

    def _write_state(self, snapshot: Snapshot) -> None:
        self._db.execute(
            "INSERT INTO repository_states (name, root_version, version, expires, refreshed_at) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT (name) DO UPDATE SET root_version = excluded.root_version, version = excluded.version,"
            " expires = excluded.expires, refreshed_at = excluded.refreshed_at",
            (snapshot.repository, snapshot.root_version, snapshot.version, snapshot.expires, now()),
        )

    def _write(self, entry: Entry, facts: str) -> None:
        licence = entry.facts.licence.weights or entry.facts.licence.data or entry.facts.licence.code
        self._db.execute(
            "INSERT INTO repository_entries (repository, path, name, version, kind, length, digest, memory, licence,"
            " tags, yanked, facts) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.repository,
                entry.path,
                entry.name,
                entry.version,
                entry.facts.kind,
                entry.length,
                str(entry.digest),
                entry.memory,
                licence,
                f" {' '.join(tag.lower() for tag in entry.facts.tags)} ",
                int(entry.facts.yanked is not None),
                facts,
            ),
        )
        parts = (entry.name, entry.facts.summary, " ".join(entry.facts.tags), entry.facts.family or "")
        self._db.execute(
            "INSERT INTO repository_words (rowid, words)"
            " SELECT id, ? FROM repository_entries WHERE repository = ? AND path = ?",
            (" ".join(parts), entry.repository, entry.path),
        )


def _conditions(query: Query) -> tuple[list[str], list[object]]:
    where: list[str] = ["yanked = 0"]
    values: list[object] = []
    for column, wanted in (("kind", query.kind), ("repository", query.repository)):
        if wanted is not None:
            where.append(f"{column} = ?")
            values.append(wanted)
    for tag in query.tags:
        where.append("instr(tags, ?) > 0")
        values.append(f" {tag.lower()} ")
    if query.max_memory is not None:
        where.append("memory <= ?")
        values.append(query.max_memory)
    if query.licences is not None:
        where.append(f"licence IN ({', '.join('?' * len(query.licences))})")
        values.extend(sorted(query.licences))
    return where, values


def _facts(entry: Entry) -> str:
    return json.dumps(entry.facts.model_dump(mode="json", exclude_defaults=True), sort_keys=True)


def _entry(row: sqlite3.Row) -> Entry:
    facts = Custom.model_validate(json.loads(row["facts"]))
    return Entry(row["repository"], row["path"], row["length"], Digest.parse(row["digest"]), facts)


def newest(entries: Sequence[Entry]) -> Entry | None:
    """The newest version that is not yanked; a pre-release only where there is nothing else."""
    usable = [entry for entry in entries if entry.facts.yanked is None]
    final = [entry for entry in usable if not _is_prerelease(entry.version)]
    return max(final or usable, key=lambda entry: order_of(entry.version), default=None)


def _is_prerelease(version: str) -> bool:
    rank, key = order_of(version)
    return bool(rank and key.is_prerelease)


def has_expired(state: State) -> bool:
    """Whether the metadata a repository was last seen with have expired."""
    return datetime.datetime.fromisoformat(state.expires) < datetime.datetime.now(datetime.UTC)
