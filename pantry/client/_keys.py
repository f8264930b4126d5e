"""The keys of this user's programs, each in a file that only the user can read."""

from __future__ import annotations

import contextlib
import hashlib
import re
from pathlib import Path

from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths, make_private


def load_key(paths: Paths, app: str) -> str | None:
    """The key kept for an app; None when there is none."""
    with contextlib.suppress(OSError):
        return _file(paths, app).read_text().strip() or None
    return None


def save_key(paths: Paths, app: str, key: str) -> None:
    """Keep the key of an app. Raises StorageError."""
    make_private(paths.app_keys)
    write_atomically(_file(paths, app), f"{key}\n".encode(), mode=0o600)


def forget_key(paths: Paths, app: str) -> None:
    """Drop the key of an app."""
    with storage_errors("Dropping a key"):
        _file(paths, app).unlink(missing_ok=True)


def owner_key(paths: Paths) -> str | None:
    """The owner's key, where this user can read it."""
    with contextlib.suppress(OSError):
        return paths.key_file.read_text().strip() or None
    return None


def _file(paths: Paths, app: str) -> Path:
    """A file name that two different apps never share."""
    readable = re.sub(r"[^a-z0-9]+", "-", app.lower())[:40].strip("-")
    return paths.app_keys / f"{readable}-{hashlib.sha256(app.encode()).hexdigest()[:8]}.key"
