"""Keeping the store in order: garbage out, everything verified."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pantry.core.paths import Paths
from pantry.repository.fetch import Fetcher
from pantry.store.garbage import Damage, collect, verify_all
from pantry.store.models import Store

KEEP_PARTIAL = 7 * 24 * 3600.0  # seconds an unfinished download is kept to be continued


@dataclass(frozen=True)
class Cleaned:
    """What was removed: files of the store and their bytes, and bytes of unfinished downloads."""

    files: int
    size: int
    partial: int


def collect_garbage(paths: Paths, *, everything: bool = False) -> Cleaned:
    """Delete what nothing uses, and downloads nobody continued for a week; `everything`: younger ones too.

    What a model, a package or a running download uses stays. Raises StorageError.
    """
    with Store.open(paths) as store:
        freed = collect(store)
    partial = Fetcher(paths.partial).clean(0.0 if everything else KEEP_PARTIAL)
    return Cleaned(freed.files, freed.size, partial)


def verify_everything(paths: Paths, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read every file of the store and name those that are damaged; `pantry pull` mends them."""
    with Store.open(paths) as store:
        return verify_all(store, progress)
