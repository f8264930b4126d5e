"""Garbage: blobs that no model and no package uses. And damage: blobs that are not what they were."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from pantry.core.errors import NotFoundError, StorageError, VerificationError
from pantry.core.files import TEMPORARY_PREFIX, storage_errors
from pantry.core.refs import Digest
from pantry.store.models import Store

_UNUSED = """SELECT digest FROM blobs
    WHERE NOT EXISTS (SELECT 1 FROM model_parts WHERE model_parts.digest = blobs.digest)
    AND NOT EXISTS (SELECT 1 FROM package_files WHERE package_files.digest = blobs.digest)"""
_USERS = """SELECT name || CASE tag WHEN 'latest' THEN '' ELSE ':' || tag END AS user FROM model_parts
    WHERE digest = :digest
    UNION SELECT name || ' ' || version || ' (' || path || ')' FROM package_files
    JOIN packages ON packages.id = package WHERE digest = :digest ORDER BY 1"""


@dataclass(frozen=True)
class Freed:
    """What a collection removed."""

    files: int
    size: int


@dataclass(frozen=True)
class Damage:
    """A blob that is missing or not what it should be, and what uses it."""

    digest: Digest
    reason: str
    users: tuple[str, ...]


def collect(store: Store) -> Freed:
    """Delete the blobs that nothing uses, and files in the blob folder that are none.

    It holds the write lock of the database, under which alone blobs are taken in: none can be between its file and
    its row. A model that is loaded keeps its content until it is unloaded, as files do that are open.
    """
    files = size = 0
    with store.database.transaction():
        for row in store.database.rows(_UNUSED):
            size += store.blobs.remove(Digest.parse(row["digest"]))
            files += 1
        known = {row["digest"].removeprefix("sha256:") for row in store.database.rows("SELECT digest FROM blobs")}
        with storage_errors("Collecting garbage"):
            for folder in store.blobs.folder.glob("[0-9a-f][0-9a-f]"):
                for file in folder.iterdir():
                    if file.name not in known and not file.name.startswith(TEMPORARY_PREFIX):
                        size += file.lstat().st_size
                        file.unlink()
                        files += 1
                with contextlib.suppress(OSError):
                    folder.rmdir()
    store.blobs.clean_unfinished()
    store.drop_unused_folders()
    return Freed(files, size)


def verify_all(store: Store, progress: Callable[[int, int], None] | None = None) -> list[Damage]:
    """Read every blob and compare its digest; what is damaged is marked, so that it is not used before it is mended.

    `progress` gets bytes done and bytes in all.
    """
    rows = store.database.rows("SELECT digest, size FROM blobs ORDER BY digest")
    total, done, found = sum(row["size"] for row in rows), 0, []
    for row in rows:
        digest = Digest.parse(row["digest"])
        try:
            if not store.blobs.path(digest).exists():
                raise NotFoundError("its file is missing")
            store.blobs.verify(digest)
        except (NotFoundError, VerificationError, StorageError) as error:
            store.database.execute("UPDATE blobs SET stamp = 'damaged' WHERE digest = ?", (str(digest),))
            found.append(Damage(digest, error.message, users(store, digest)))
        done += row["size"]
        if progress:
            progress(done, total)
    return found


def users(store: Store, digest: Digest) -> tuple[str, ...]:
    """What uses a blob: names of models, packages with the path in them."""
    return tuple(row["user"] for row in store.database.rows(_USERS, {"digest": str(digest)}))
