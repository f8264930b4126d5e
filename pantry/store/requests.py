"""Requests: what apps asked for, and what became of it."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pantry.core.errors import ConflictError, NotFoundError
from pantry.store.database import Database, now

Kind = Literal["permission", "load", "unload", "download"]
State = Literal["pending", "approved", "done", "failed", "refused"]
KEPT = 200  # decided requests that are kept for each app


@dataclass(frozen=True)
class AppRequest:
    """One request. `details` depend on the kind (see pantry/access/requests.py); `outcome` says what came of it.

    States: pending (the user has not decided), approved (being done), done, failed, refused.
    """

    id: str
    app: str
    app_name: str
    kind: Kind
    details: Mapping[str, Any] = field(hash=False)
    reason: str = ""
    state: State = "pending"
    outcome: str = ""
    created_at: str = ""
    decided_at: str | None = None

    @property
    def complete(self) -> bool:
        return self.state in ("done", "failed", "refused")

    @property
    def accepted(self) -> bool:
        return self.state in ("approved", "done")


_SELECT = """SELECT requests.*, apps.name AS app_name FROM requests JOIN apps ON apps.id = requests.app"""


class Requests:
    """The requests of a home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, app: str, kind: Kind, details: Mapping[str, Any], reason: str) -> AppRequest:
        """Write down a request of an app, and forget decided ones beyond the newest of that app."""
        id = str(uuid.uuid4())
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO requests (id, app, kind, details, reason, state, outcome, created_at)"
                " VALUES (?, ?, ?, ?, ?, 'pending', '', ?)",
                (id, app, kind, json.dumps(details), reason, now()),
            )
            self._database.execute(
                "DELETE FROM requests WHERE app = ? AND state IN ('done', 'failed', 'refused') AND rowid NOT IN"
                " (SELECT rowid FROM requests WHERE app = ? ORDER BY created_at DESC, rowid DESC LIMIT ?)",
                (app, app, KEPT),
            )
        return self.get(id)

    def get(self, id: str) -> AppRequest:
        """The request with this id. Raises NotFoundError."""
        row = self._database.row(f"{_SELECT} WHERE requests.id = ?", (id,))
        if row is None:
            raise NotFoundError("There is no such request.")
        return _request(row)

    def find(self, text: str) -> AppRequest:
        """The request whose id is `text` or starts with it. Raises NotFoundError, also when several fit."""
        fits = [each for each in self.list() if each.id == text or (len(text) >= 4 and each.id.startswith(text))]
        if len(fits) != 1:
            found = f"{len(fits)} requests start with" if fits else "There is no request"
            raise NotFoundError(f"{found} {text[:80]!r}.", hint="See: pantry request list --all")
        return fits[0]

    def answered(self, most: int) -> list[AppRequest]:
        """Requests that are complete, of all apps, the last decided first."""
        rows = self._database.rows(
            f"{_SELECT} WHERE state IN ('done', 'failed', 'refused')"
            " ORDER BY requests.decided_at DESC, requests.rowid DESC LIMIT ?",
            (most,),
        )
        return [_request(row) for row in rows]

    def list(self, *, app: str | None = None, state: State | None = None) -> list[AppRequest]:
        """Requests, oldest first, of one app or state where given."""
        rows = self._database.rows(
            f"{_SELECT} WHERE (?1 IS NULL OR requests.app = ?1) AND (?2 IS NULL OR requests.state = ?2)"
            " ORDER BY requests.created_at, requests.rowid",
            (app, state),
        )
        return [_request(row) for row in rows]

    def pending_like(self, app: str, kind: Kind, details: Mapping[str, Any]) -> AppRequest | None:
        """The undecided or running request of an app for the very same thing."""
        row = self._database.row(
            f"{_SELECT} WHERE requests.app = ? AND kind = ? AND details = ? AND state IN ('pending', 'approved')",
            (app, kind, json.dumps(details)),
        )
        return _request(row) if row else None

    def count_pending(self, app: str | None = None) -> int:
        """Undecided requests, of one app or of all."""
        row = self._database.row(
            "SELECT count(*) AS n FROM requests WHERE state = 'pending' AND (?1 IS NULL OR app = ?1)", (app,)
        )
        return int(row["n"]) if row else 0

    def count_approved(self, app: str) -> int:
        """Requests of an app that are being done."""
        row = self._database.row("SELECT count(*) AS n FROM requests WHERE state = 'approved' AND app = ?", (app,))
        return int(row["n"]) if row else 0

    def decide(self, id: str, state: Literal["approved", "refused"], outcome: str = "") -> None:
        """Record the user's answer. Raises ConflictError when there is one already."""
        changed = self._database.execute(
            "UPDATE requests SET state = ?, outcome = ?, decided_at = ? WHERE id = ? AND state = 'pending'",
            (state, outcome, now(), id),
        )
        if not changed:
            found = self.get(id)
            raise ConflictError(f"This request was decided already: it is {found.state}.")

    def finish(self, id: str, state: Literal["done", "failed"], outcome: str) -> None:
        """Record what came of an approved request."""
        self._database.execute(
            "UPDATE requests SET state = ?, outcome = ? WHERE id = ? AND state = 'approved'", (state, outcome, id)
        )


def _request(row: sqlite3.Row) -> AppRequest:
    return AppRequest(
        row["id"], row["app"], row["app_name"], row["kind"], json.loads(row["details"]), row["reason"], row["state"],
        row["outcome"], row["created_at"], row["decided_at"],
    )  # fmt: skip
