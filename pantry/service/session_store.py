"""Conversations the service keeps: their history in words, encrypted at rest where the user wants it."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from pantry.core.errors import ForbiddenError, MissingExtraError, StorageError
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.store.database import Database
from pantry.store.sessions import Session, Sessions

Message = dict[str, str]
_KEYRING = ("pantry", "sessions")
_NONCE = 12  # bytes, the size AES-GCM is made for
_SEALED = b"\x01"
"""The first byte of an encrypted turn; that of a plain one is _PLAIN."""
_PLAIN = b"\x00"
_DAY = 86_400.0


class SessionBook:
    """The sessions of a home. `app` is None for the owner."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._settings = settings
        self._sessions = Sessions(database, settings.session_bytes)
        self._ready_cipher: Any = None
        self._unlocking = threading.Lock()

    def unlock(self) -> None:
        """Fetch the key of the history where it is encrypted. A keyring may ask its user: not for an event loop.

        Raises MissingExtraError, and StorageError when the keyring does not answer or its key is damaged.
        """
        if self._settings.keep_sessions and self._settings.encrypt_sessions:
            self._cipher()

    def create(self, app: str | None, model: ModelName, parameters: Mapping[str, Any], system: str | None) -> Session:
        """Start a session, with a system message if one is given.

        Raises ForbiddenError when none are kept, and what a keyring raises that does not give the key.
        """
        if not self._settings.keep_sessions:
            raise ForbiddenError(
                "Sessions are turned off (setting keep_sessions).", hint="Send the whole conversation with each call."
            )
        if self._settings.encrypt_sessions:
            self._cipher()  # before anything is written, and before an answer is that could not be kept
        session = self._sessions.create(app, model, parameters)
        if system:
            self._sessions.append(session, [("system", self._seal(session, system))])
        return session

    def get(self, app: str | None, id: str) -> Session:
        """A session of an app. Raises NotFoundError, also for that of another app."""
        return self._sessions.get(app, id)

    def of_app(self, app: str | None) -> list[Session]:
        """The sessions of an app, the last used first."""
        return self._sessions.of_app(app)

    def messages(self, session: Session) -> list[Message]:
        """The history in order. Raises StorageError when it cannot be decrypted."""
        return [
            {"role": role, "content": self._open(session, content)} for role, content in self._sessions.turns(session)
        ]

    def record(self, session: Session, asked: str, answered: str) -> None:
        """Keep a turn: both sides of it, or neither. Raises TooLargeError, NotFoundError."""
        turns = (("user", asked), ("assistant", answered))
        self._sessions.append(session, [(role, self._seal(session, text)) for role, text in turns])

    def totals(self) -> dict[str | None, tuple[int, int]]:
        """For each app that has any (None: the owner) how many sessions there are, and their bytes."""
        return self._sessions.totals()

    def delete(self, app: str | None, id: str) -> bool:
        """Delete a session of an app; False when there was none."""
        return self._sessions.delete(app, id)

    def expire(self) -> int:
        """Delete the sessions that were not used for too long; how many there were."""
        return self._sessions.expire(time.time() - self._settings.session_days * _DAY)

    def _seal(self, session: Session, text: str) -> bytes:
        if not self._settings.encrypt_sessions:
            return _PLAIN + text.encode()
        nonce = secrets.token_bytes(_NONCE)
        return _SEALED + nonce + bytes(self._cipher().encrypt(nonce, text.encode(), session.id.encode()))

    def _open(self, session: Session, content: bytes) -> str:
        if content[:1] == _PLAIN:
            return content[1:].decode()
        from cryptography.exceptions import InvalidTag

        nonce, sealed = content[1 : 1 + _NONCE], content[1 + _NONCE :]
        try:
            return bytes(self._cipher().decrypt(nonce, sealed, session.id.encode())).decode()
        except InvalidTag:
            raise StorageError(
                "This session was encrypted with another key than the one in the keyring.",
                hint="Restore that key, or delete the session.",
            ) from None

    def _cipher(self) -> Any:
        with self._unlocking:
            if self._ready_cipher is None:
                self._ready_cipher = _cipher_from_keyring()
            return self._ready_cipher


def _cipher_from_keyring() -> Any:
    """AES-256-GCM with the key from the system keyring, made there at first use.

    Raises MissingExtraError, and StorageError when the keyring does not answer or its key is damaged.
    """
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise MissingExtraError("Encrypting sessions", "keyring") from None
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        stored = keyring.get_password(*_KEYRING)
        if stored is None:
            stored = AESGCM.generate_key(256).hex()
            keyring.set_password(*_KEYRING, stored)
        return AESGCM(bytes.fromhex(stored))
    except KeyringError as error:
        raise StorageError(
            f"The system keyring does not answer: {error}.", hint="Unlock it, or turn encrypt_sessions off."
        ) from None
    except ValueError:
        raise StorageError(
            f"The key {'/'.join(_KEYRING)} in the system keyring is damaged.",
            hint="Restore it; without it no encrypted session can be read. Or remove it and start new sessions.",
        ) from None
