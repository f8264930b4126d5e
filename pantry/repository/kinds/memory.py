"""A repository in memory, for tests of what stands on top: its content is trusted as it is, there is no metadata."""

from __future__ import annotations

from typing import ClassVar

from pantry.core.errors import NotFoundError
from pantry.repository.entry import Entry, Snapshot, Target
from pantry.repository.fetch import Fetcher
from pantry.repository.source import Place


class MemoryRepository:
    """The files put into `CONTENT` under the place's url."""

    CONTENT: ClassVar[dict[str, dict[str, tuple[Entry, bytes]]]] = {}

    def __init__(self, place: Place) -> None:
        self._place = place

    def snapshot(self, fetcher: Fetcher) -> Snapshot:
        entries = tuple(entry for entry, _ in self._files().values())
        return Snapshot(self._place.name, 1, len(entries), "9999-12-31T00:00:00Z", entries)

    def where(self, target: Target) -> bytes:
        if target.path not in self._files():
            raise NotFoundError(f"{target.path} is not there.")
        return self._files()[target.path][1]

    def _files(self) -> dict[str, tuple[Entry, bytes]]:
        return self.CONTENT.get(self._place.url, {})


KIND = MemoryRepository
