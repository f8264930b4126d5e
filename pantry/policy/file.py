"""The policy file as it lies there: its text, and what tells that it was changed."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from pantry.core.errors import UsageError
from pantry.core.files import storage_errors
from pantry.core.paths import Paths

FILE = "policy.toml"
MAX_POLICY = 1_000_000  # bytes


def policy_text(paths: Paths) -> str:
    """The content of the policy file, empty when there is none.

    Only a file that is not there at all means no policy: one that cannot be read must not open what it would close.
    Raises UsageError or StorageError that says what is there instead.
    """
    file = paths.config / FILE
    with storage_errors(f"Reading the policy {file}"):
        for place in (paths.config, file):
            if not _is_there(place):
                return ""
            if not place.exists():
                raise UsageError(
                    f"The policy {file} cannot be read: {place} is a link to nothing.",
                    hint="Correct the link, or remove it to be without a policy.",
                )
        if not file.is_file():
            raise UsageError(f"The policy {file} is no file.", hint="Move away what is there.")
        content = file.read_bytes() if file.stat().st_size <= MAX_POLICY else None
    if content is None:
        raise UsageError(f"The policy {file} is larger than {MAX_POLICY} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from None


def policy_mark(paths: Paths) -> tuple[int, ...]:
    """What changes whenever the policy file is written, replaced or removed; the file is not read."""
    file, mark = paths.config / FILE, []
    for look in (os.lstat, os.stat):  # of a link, and of what it leads to
        with contextlib.suppress(OSError):
            found = look(file)
            mark += [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return tuple(mark)


def _is_there(place: Path) -> bool:
    """Whether anything is at `place`, also a link to nothing; raises OSError when that cannot be told."""
    try:
        place.lstat()
    except FileNotFoundError:
        return False
    return True
