"""A repository in memory, for tests of what stands on top: its content is trusted as it is, there is no metadata."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

from pantry.core.errors import NotFoundError
from pantry.core.files import write_atomically
from pantry.repository.entry import Entry, Snapshot
from pantry.repository.fetch import Fetcher, Progress
from pantry.repository.source import Place


class MemoryRepository:
    """The files put into `CONTENT` under the place's url."""

    CONTENT: ClassVar[dict[str, dict[str, tuple[Entry, bytes]]]] = {}

    def __init__(self, place: Place) -> None:
        self._place = place

    def snapshot(self, fetcher: Fetcher) -> Snapshot:
        entries = tuple(entry for entry, _ in self._files().values())
        return Snapshot(self._place.name, 1, len(entries), "9999-12-31T00:00:00Z", entries)

    @contextlib.contextmanager
    def fetched(
        self,
        entry: Entry,
        fetcher: Fetcher,
        progress: Progress | None = None,
        waiting: Callable[[], None] | None = None,
    ) -> Iterator[Path]:
        if entry.path not in self._files():
            raise NotFoundError(f"{entry.path} is not there.")
        source = fetcher.folder / f"{entry.digest.hex}.memory"
        write_atomically(source, self._files()[entry.path][1])
        try:
            with fetcher.copied(source, entry.digest, entry.length, progress, waiting) as file:
                yield file
        finally:
            source.unlink(missing_ok=True)

    def _files(self) -> dict[str, tuple[Entry, bytes]]:
        return self.CONTENT.get(self._place.url, {})


KIND = MemoryRepository
