"""The log of a job: a file of its own that never grows beyond a bound, and that only the owner can read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import make_private
from pantry.core.units import printable
from pantry.store.database import now

MAX_LOG = 256 * 1024  # bytes; then the older half goes
MAX_LINE = 2000  # characters of a line that are kept
DROPPED = b"(earlier lines were dropped)\n"


@dataclass(frozen=True)
class JobLog:
    """The log in one file, which need not exist yet."""

    path: Path

    def add(self, text: str) -> None:
        """Write lines, each with the time before it. Raises StorageError."""
        moment = now()
        lines = "".join(f"{moment} {printable(line[:MAX_LINE])}\n" for line in text.splitlines())
        with storage_errors(f"Writing {self.path.name}"):
            make_private(self.path.parent)
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                file.write(lines.encode("utf-8", "replace"))
                size = file.tell()
        if size > MAX_LOG:
            self._halve()

    def read(self, offset: int = 0) -> tuple[str, int]:
        """What was written from byte `offset` on, and the offset to go on from; all, where the log became shorter.

        Raises StorageError.
        """
        with storage_errors(f"Reading {self.path.name}"):
            try:
                file = self.path.open("rb")
            except FileNotFoundError:
                return "", 0
            with file:
                size = file.seek(0, os.SEEK_END)
                file.seek(offset if 0 <= offset <= size else 0)
                content = file.read()
                return content.decode("utf-8", "replace"), file.tell()

    def _halve(self) -> None:
        with storage_errors(f"Reading {self.path.name}"):
            content = self.path.read_bytes()
        kept = content[-MAX_LOG // 2 :].partition(b"\n")[2]
        write_atomically(self.path, DROPPED + kept, mode=0o600)
