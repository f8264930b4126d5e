"""Sessions: conversations that the service keeps for an app, turn by turn, inside a bound of bytes."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pantry.core.errors import NotFoundError, TooLargeError
from pantry.core.refs import ModelName
from pantry.store.database import Database

MOST = 500  # sessions of one app; the least recently used go first


@dataclass(frozen=True)
class Session:
    """A kept conversation. `app` is None for the owner's; times are seconds since 1970; `size` is in bytes."""

    id: str
    app: str | None
    model: ModelName
    parameters: Mapping[str, Any]
    started_at: float
    last_used: float
    size: int


class Sessions:
    """The sessions of a home. Contents are bytes here: whoever calls decides whether they are encrypted."""

    def __init__(self, database: Database, bytes_per_app: int) -> None:
        self._database, self._bound = database, bytes_per_app

    def create(self, app: str | None, model: ModelName, parameters: Mapping[str, Any]) -> Session:
        """Start a session, and delete the least recently used ones beyond MOST or the bound.

        Its parameters count among its bytes. Raises TooLargeError when they alone are over the bound.
        """
        id, when, text = str(uuid.uuid4()), time.time(), json.dumps(parameters)
        size = len(text) if parameters else 0
        if size > self._bound:
            raise TooLargeError(f"The parameters of a session are at most {self._bound} bytes (setting session_bytes).")
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO sessions (id, app, model, title, parameters, started_at, last_used, size)"
                " VALUES (?, ?, ?, '', ?, ?, ?, ?)",
                (id, app, str(model), text, when, when, size),
            )
            self._database.execute(
                "DELETE FROM sessions WHERE app IS ? AND id NOT IN"
                " (SELECT id FROM sessions WHERE app IS ? ORDER BY last_used DESC LIMIT ?)",
                (app, app, MOST),
            )
            made = self.get(app, id)
            self._shrink(made)
        return made

    def get(self, app: str | None, id: str) -> Session:
        """The session of an app. Raises NotFoundError, also for that of another app: nobody learns that it exists."""
        row = self._database.row("SELECT * FROM sessions WHERE id = ? AND app IS ?", (id, app))
        if row is None:
            raise NotFoundError("There is no such session.")
        return _session(row)

    def of_app(self, app: str | None) -> list[Session]:
        """The sessions of an app, the last used first."""
        rows = self._database.rows("SELECT * FROM sessions WHERE app IS ? ORDER BY last_used DESC", (app,))
        return [_session(row) for row in rows]

    def turns(self, session: Session) -> list[tuple[str, bytes]]:
        """Role and content of every turn, in order."""
        sql = "SELECT role, content FROM turns WHERE session = ? ORDER BY number"
        return [(row["role"], row["content"]) for row in self._database.rows(sql, (session.id,))]

    def append(self, session: Session, turns: Sequence[tuple[str, bytes]]) -> None:
        """Add turns together, then delete the app's least recently used other sessions until all fit the bound.

        Raises TooLargeError when the session alone would be over it, and NotFoundError when it was deleted meanwhile.
        """
        added = sum(len(content) for _, content in turns)
        with self._database.transaction():
            current = self.get(session.app, session.id)
            if current.size + added > self._bound:
                raise TooLargeError(
                    f"This session would grow over {self._bound} bytes.",
                    hint="Start a new one (setting session_bytes).",
                )
            row = self._database.row("SELECT count(*) AS n FROM turns WHERE session = ?", (session.id,))
            first = int(row["n"]) if row else 0
            for number, (role, content) in enumerate(turns, start=first):
                self._database.execute(
                    "INSERT INTO turns (session, number, role, content) VALUES (?, ?, ?, ?)",
                    (session.id, number, role, content),
                )
            self._database.execute(
                "UPDATE sessions SET size = size + ?, last_used = ? WHERE id = ?", (added, time.time(), session.id)
            )
            self._shrink(session)

    def _shrink(self, newest: Session) -> None:
        mine = self.of_app(newest.app)
        total = sum(each.size for each in mine)
        for each in reversed(mine):
            if total <= self._bound:
                return
            if each.id != newest.id:
                self._database.execute("DELETE FROM sessions WHERE id = ?", (each.id,))
                total -= each.size

    def delete(self, app: str | None, id: str) -> bool:
        """Delete a session of an app; False when there was none."""
        return self._database.execute("DELETE FROM sessions WHERE id = ? AND app IS ?", (id, app)) > 0

    def totals(self) -> dict[str | None, tuple[int, int]]:
        """For each app that has any (None: the owner) how many sessions there are, and their bytes."""
        rows = self._database.rows("SELECT app, count(*) AS n, sum(size) AS bytes FROM sessions GROUP BY app")
        return {row["app"]: (row["n"], row["bytes"]) for row in rows}

    def expire(self, before: float) -> int:
        """Delete sessions last used before a time in seconds since 1970; how many there were."""
        return self._database.execute("DELETE FROM sessions WHERE last_used < ?", (before,))


def _session(row: sqlite3.Row) -> Session:
    return Session(
        row["id"], row["app"], ModelName.parse(row["model"]), json.loads(row["parameters"]),
        row["started_at"], row["last_used"], row["size"],
    )  # fmt: skip
