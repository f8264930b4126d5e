"""The contract of a repository, and the registry of its kinds. A kind is one file in `pantry/repository/kinds/`.

A kind is a class, offered under `KIND`, made from a `Place`; it has the two methods of `Repository`. What comes from
`snapshot` is verified; what comes from `fetched` has the length and the digest of its entry.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pantry.core.registry import Registry
from pantry.repository.entry import Entry, Snapshot
from pantry.repository.fetch import Fetcher, Progress

KINDS = Registry("pantry.repository.kinds", "pantry.repositories", "KIND", "kind of repository")


@dataclass(frozen=True)
class Place:
    """Where a repository is: its local name, its address (or folder), its trusted root, and a folder for its state."""

    name: str
    url: str
    root: bytes
    state: Path


class Repository(Protocol):
    """One repository."""

    def snapshot(self, fetcher: Fetcher) -> Snapshot:
        """What it offers now. Raises VerificationError when it cannot be trusted, DownloadError when not reached."""
        ...

    def fetched(
        self,
        entry: Entry,
        fetcher: Fetcher,
        progress: Progress | None = None,
        waiting: Callable[[], None] | None = None,
    ) -> AbstractContextManager[Path]:
        """The file of `entry`, length and digest checked, for the time of a block that may move it away."""
        ...


def open_repository(kind: str, place: Place) -> Repository:
    """The repository of that kind at that place. Raises NotFoundError for an unknown kind."""
    made: Repository = KINDS.get(kind)(place)
    return made
