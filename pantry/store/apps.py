"""Apps: programs with a key of their own, what the user granted them, and how much they used."""

from __future__ import annotations

import datetime
import json
import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pantry.core.errors import NotFoundError, did_you_mean
from pantry.core.permissions import Caller, Grant, Permission
from pantry.store.database import Database, now

USAGE_DAYS = 90  # days that the token counts of an app are kept


@dataclass(frozen=True)
class App:
    """One app. `origin` is set for web pages; `used_today` counts prompt and generated tokens since midnight UTC.

    `last_seen` is when it last called, RFC 3339; None when it never did.
    """

    id: str
    name: str
    origin: str | None
    created_at: str
    tokens_per_day: int | None
    grants: Mapping[Permission, Grant]
    used_today: int = 0
    last_seen: str | None = None

    def caller(self) -> Caller:
        """The app as the permission rule sees it."""
        return Caller("app", self.name, self.id, self.grants, self.tokens_per_day)

    def to_json(self) -> dict[str, Any]:
        """The app for programs: its grants with their models and ends (seconds since 1970), and its tokens."""
        grants = {name: {"models": grant.models, "expires_at": grant.expires_at} for name, grant in self.grants.items()}
        return {
            "id": self.id,
            "name": self.name,
            "origin": self.origin,
            "created_at": self.created_at,
            "grants": grants,
            "tokens_per_day": self.tokens_per_day,
            "used_today": self.used_today,
            "last_seen": self.last_seen,
        }


_SELECT = """SELECT id, name, origin, created_at, tokens_per_day, last_seen, COALESCE(tokens, 0) AS used
    FROM apps LEFT JOIN app_usage ON app = id AND day = ?"""


def today() -> str:
    """The day in UTC, as tables have it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


class Apps:
    """The apps of a home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, name: str, origin: str | None = None) -> App:
        """Add an app without any permission."""
        id = str(uuid.uuid4())
        self._database.execute(
            "INSERT INTO apps (id, name, origin, created_at) VALUES (?, ?, ?, ?)", (id, name, origin, now())
        )
        return self.get(id)

    def get(self, id: str) -> App:
        """The app with this id. Raises NotFoundError."""
        row = self._database.row(f"{_SELECT} WHERE id = ?", (today(), id))
        if row is None:
            raise NotFoundError("There is no such app.")
        return self._app(row)

    def find(self, text: str) -> App:
        """The app whose id, start of an id, or name is `text`. Raises NotFoundError, also when several fit."""
        everyone = self.list()
        fits = [app for app in everyone if text in (app.id, app.name)]
        fits = fits or [app for app in everyone if len(text) >= 4 and app.id.startswith(text)]
        if len(fits) == 1:
            return fits[0]
        if fits:
            ids = ", ".join(app.id[:8] for app in fits)
            raise NotFoundError(f"{len(fits)} apps are called {text!r}.", hint=f"Use the id: {ids}.")
        names = [app.name for app in everyone]
        raise NotFoundError(f"There is no app {text[:80]!r}.", hint=did_you_mean(text, names, "See: pantry app list"))

    def of_origin(self, origin: str) -> App | None:
        """The app of a web origin."""
        row = self._database.row(f"{_SELECT} WHERE origin = ?", (today(), origin))
        return self._app(row) if row else None

    def list(self) -> list[App]:
        """All apps by name."""
        return [self._app(row) for row in self._database.rows(f"{_SELECT} ORDER BY name, id", (today(),))]

    def count_without_grants(self) -> int:
        """How many apps have no permission at all."""
        row = self._database.row("SELECT count(*) AS n FROM apps WHERE id NOT IN (SELECT app FROM grants)")
        return int(row["n"]) if row else 0

    def grant(self, app: str, permissions: Iterable[Permission], grant: Grant) -> None:
        """Give permissions, each in place of an earlier grant of it."""
        for permission in permissions:
            self._database.execute(
                "INSERT OR REPLACE INTO grants (app, permission, models, expires_at) VALUES (?, ?, ?, ?)",
                (app, permission.value, json.dumps(grant.models), grant.expires_at),
            )

    def withdraw(self, app: str, permissions: Iterable[Permission]) -> int:
        """Take permissions away; how many there were."""
        sql = "DELETE FROM grants WHERE app = ? AND permission = ?"
        return sum(self._database.execute(sql, (app, permission.value)) for permission in permissions)

    def limit_tokens(self, app: str, tokens_per_day: int | None) -> None:
        """Set how many tokens the app may use a day; None for no limit."""
        self._database.execute("UPDATE apps SET tokens_per_day = ? WHERE id = ?", (tokens_per_day, app))

    def count_tokens(self, app: str, tokens: int) -> None:
        """Add to what the app used today, and forget days long past."""
        with self._database.transaction():
            self._database.execute(
                "INSERT INTO app_usage (app, day, tokens) SELECT id, ?, ? FROM apps WHERE id = ?"
                " ON CONFLICT (app, day) DO UPDATE SET tokens = tokens + excluded.tokens",
                (today(), tokens, app),
            )
            oldest = datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=USAGE_DAYS)
            self._database.execute("DELETE FROM app_usage WHERE app = ? AND day < ?", (app, oldest.isoformat()))

    def saw(self, app: str, when: str) -> None:
        """Note when the app last called."""
        self._database.execute("UPDATE apps SET last_seen = ? WHERE id = ?", (when, app))

    def remove(self, app: str) -> bool:
        """Forget an app with its keys, requests, sessions and counts; False when there was none."""
        return self._database.execute("DELETE FROM apps WHERE id = ?", (app,)) > 0

    def _app(self, row: sqlite3.Row) -> App:
        grants = {
            Permission(each["permission"]): Grant(tuple(json.loads(each["models"])), each["expires_at"])
            for each in self._database.rows(
                "SELECT permission, models, expires_at FROM grants WHERE app = ? ORDER BY permission", (row["id"],)
            )
        }
        return App(
            row["id"], row["name"], row["origin"], row["created_at"], row["tokens_per_day"], grants, row["used"],
            row["last_seen"],
        )  # fmt: skip
