"""The contract of a repository, and the registry of its kinds. A kind is one file in `pantry/repository/kinds/`.

A kind is a class, offered under `KIND`, made from a `Place`; it has the two methods of `Kind`. What comes from
`snapshot` is verified; what comes from `fetched` has the length and the digest of its target.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pantry.core.files import write_atomically
from pantry.core.progress import Progress
from pantry.core.registry import Registry
from pantry.repository.address import Address
from pantry.repository.entry import Snapshot, Target
from pantry.repository.fetch import DownloadTarget, Fetcher

KINDS = Registry("pantry.repository.kinds", "pantry.repositories", "KIND", "kind of repository")


@dataclass(frozen=True)
class Place:
    """Where a repository is: its local name, its address (or folder), its trusted root, and a folder for its state."""

    name: str
    url: str
    root: bytes
    state: Path


class Kind(Protocol):
    """What one kind of repository knows."""

    def snapshot(self, fetcher: Fetcher) -> Snapshot:
        """What it offers now. Raises VerificationError when it cannot be trusted, DownloadError when not reached."""
        ...

    def where(self, target: Target) -> Address | Path | bytes:
        """Where the file of a target is, or its content. Raises NotFoundError."""
        ...


@dataclass(frozen=True)
class Repository:
    """One repository, ready to be asked."""

    kind: Kind

    def snapshot(self, fetcher: Fetcher) -> Snapshot:
        """What it offers now. Raises VerificationError when it cannot be trusted, DownloadError when not reached."""
        return self.kind.snapshot(fetcher)

    @contextlib.contextmanager
    def fetched(
        self,
        target: Target,
        fetcher: Fetcher,
        progress: Progress | None = None,
        waiting: Callable[[], None] | None = None,
    ) -> Iterator[Path]:
        """The file of `target`, length and digest checked, for the time of a block that may move it away."""
        where = self.kind.where(target)
        with contextlib.ExitStack() as held:
            if isinstance(where, Address):
                wanted = DownloadTarget(where, target.length, target.digest)
                yield held.enter_context(fetcher.fetched(wanted, progress, waiting))
                return
            if isinstance(where, bytes):
                content, where = where, fetcher.folder / f"{target.digest.hex}.memory"
                write_atomically(where, content)
                held.callback(where.unlink, missing_ok=True)
            yield held.enter_context(fetcher.copied(where, target.digest, target.length, progress, waiting))


def open_repository(kind: str, place: Place) -> Repository:
    """The repository of that kind at that place. Raises NotFoundError for an unknown kind."""
    return Repository(KINDS.get(kind)(place))
