"""Keys for calling the service over TCP. Only their hashes are stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from pantry.store.database import Database, now

PREFIX = "pk-"


@dataclass(frozen=True)
class Key:
    """What is known of a key: everything but the key. `app` is the id of the app it belongs to; None: the owner's."""

    id: str
    name: str
    created_at: str
    app: str | None = None


def hash_key(text: str) -> str:
    """The form a key is stored in: SHA-256, enough because a key has 256 random bits."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Keys:
    """The keys of a home."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, app: str | None = None) -> tuple[Key, str]:
        """Make a key; its record and its text, which is shown this once."""
        text = PREFIX + secrets.token_urlsafe(32)
        key = Key(secrets.token_hex(4), name, now(), app)
        self._database.execute(
            "INSERT INTO keys (id, name, hash, created_at, app) VALUES (?, ?, ?, ?, ?)",
            (key.id, key.name, hash_key(text), key.created_at, key.app),
        )
        return key, text

    def find(self, text: str) -> Key | None:
        """The key with this text, unless there is none or it was revoked.

        Looked up by hash: how long it takes tells nothing about how much of a guess was right.
        """
        row = self._database.row(
            "SELECT id, name, created_at, app FROM keys WHERE hash = ? AND revoked_at IS NULL", (hash_key(text),)
        )
        return Key(row["id"], row["name"], row["created_at"], row["app"]) if row else None

    def revoke(self, id: str) -> bool:
        """Revoke a key; False when there is no such key in use."""
        sql = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
        return self._database.execute(sql, (now(), id)) > 0

    def revoke_of_app(self, app: str) -> int:
        """Revoke every key of an app; how many there were."""
        return self._database.execute(
            "UPDATE keys SET revoked_at = ? WHERE app = ? AND revoked_at IS NULL", (now(), app)
        )
