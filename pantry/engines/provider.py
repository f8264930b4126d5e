"""A model at a provider: where it answers, what it is called there, and where its key is kept. Never the key itself."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pantry.core.errors import BadFileError, EngineError, MissingExtraError, UsageError
from pantry.core.hosts import is_loopback

FORMAT = "remote"
"""What the store calls the format of such a description: a JSON object with the fields of Provider."""
KEYRING = "pantry-providers"
"""The service name of the keys in the system keyring."""
_ENVIRONMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
LONGEST = 10_000  # bytes of a description


@dataclass(frozen=True)
class Provider:
    """`url` ends before `/chat/completions`; `key` is `env:NAME`, `keyring:NAME` or empty for a server without keys."""

    url: str
    model: str
    key: str = ""

    def __post_init__(self) -> None:
        """Raises UsageError for an address, a model or a place of a key that cannot be."""
        _check_url(self.url)
        if not self.model or len(self.model) > 200 or not self.model.isprintable():
            raise UsageError(f"{self.model[:60]!r} is not the name of a provider's model.")
        kind, _, name = self.key.partition(":")
        if self.key and not ((kind == "env" and _ENVIRONMENT.fullmatch(name)) or (kind == "keyring" and name)):
            raise UsageError("The place of a key is env:NAME or keyring:NAME, never the key itself.")

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    def find_key(self) -> str | None:
        """The key, now. Raises EngineError with the next step when it is not where it should be."""
        kind, _, name = self.key.partition(":")
        if kind == "env":
            if value := os.environ.get(name):
                return value
            raise EngineError(f"The variable {name} with the key of {self.host} is not set where the service runs.")
        return _from_keyring(name, self.host) if kind == "keyring" else None


def read_provider(file: Path) -> Provider:
    """Read a description. Raises BadFileError when it is none."""
    try:
        given: Any = json.loads(file.read_bytes()[:LONGEST])
        return Provider(**{name: str(value) for name, value in given.items()})
    except (OSError, ValueError, TypeError, AttributeError, UsageError) as error:
        raise BadFileError(f"{file.name} does not describe a model at a provider: {error}.") from None


def keep_key(name: str, key: str) -> None:
    """Put a key into the system keyring. Raises MissingExtraError, EngineError when there is no keyring."""
    keyring, failure = _keyring()
    try:
        keyring.set_password(KEYRING, name, key)
    except failure as error:
        raise EngineError(f"The system keyring does not take the key: {error}.", hint="Use env:NAME.") from None


def _from_keyring(name: str, host: str) -> str:
    keyring, failure = _keyring()
    try:
        found = keyring.get_password(KEYRING, name)
    except failure as error:
        raise EngineError(f"The system keyring does not answer: {error}.", hint="Unlock it.") from None
    if not found:
        raise EngineError(f"The system keyring has no key {name!r} for {host}.", hint="See: pantry remote add --help")
    return str(found)


def _keyring() -> tuple[Any, type[Exception]]:
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise MissingExtraError("A key in the system keyring", "keyring") from None
    return keyring, KeyringError


def _check_url(text: str) -> None:
    """HTTPS, or HTTP to this machine; no user, query or fragment in it, where keys could hide."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        host, parts = "", urlsplit("")
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not host or not safe or parts.username or parts.query or parts.fragment or not text.isprintable():
        raise UsageError(
            f"{text[:120]!r} is not an address of a provider.",
            hint="It begins with https:// (http:// only for this machine), like https://api.example/v1.",
        )
