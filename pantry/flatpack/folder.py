"""The files of a folder, as a package sees them: regular files only, in canonical order."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pantry.core.errors import BadFileError, NotFoundError, VerificationError
from pantry.core.files import storage_errors
from pantry.core.progress import Meter, Progress
from pantry.core.refs import Digest
from pantry.flatpack.names import BUNDLE_NAME, GIT_NAMES, NameGuard, check_path, sort_key
from pantry.flatpack.statement import Entry


@dataclass(frozen=True, slots=True)
class Found:
    """A regular file of the folder: path inside it, size in bytes, whether its owner may run it."""

    path: str
    size: int
    executable: bool


def list_files(folder: Path, *, skip: frozenset[str] = GIT_NAMES | {BUNDLE_NAME}) -> list[Found]:
    """Every file below `folder`, sorted; `skip` names what is left out at the top.

    Raises BadFileError for links, devices and names that are unsafe or clash, NotFoundError if there is no folder.
    """
    if not folder.is_dir():
        raise NotFoundError(f"There is no folder {folder}.")
    with storage_errors(f"Reading {folder}"):
        found = sorted(_walk(str(folder), "", skip), key=lambda item: sort_key(item.path))
    guard = NameGuard()
    for item in found:
        guard.add(item.path)
    return found


def _walk(folder: str, prefix: str, skip: frozenset[str]) -> Iterator[Found]:
    with os.scandir(folder) as items:
        for item in items:
            if not prefix and item.name in skip:
                continue
            path = prefix + item.name
            mode = (state := item.stat(follow_symlinks=False)).st_mode
            if stat.S_ISDIR(mode):
                check_path(path)
                yield from _walk(item.path, path + "/", skip)
            elif stat.S_ISREG(mode):
                yield Found(path, state.st_size, bool(mode & stat.S_IXUSR))
            elif stat.S_ISLNK(mode):
                raise BadFileError(
                    f"{path!r} is a link to {str(Path(item.path).readlink())!r}; a flatpack holds plain files.",
                    hint="Put the file itself in its place: cp -L.",
                )
            else:
                raise BadFileError(f"{path!r} is a device, pipe or socket; a flatpack holds plain files.")


def empty_folders(folder: Path) -> list[str]:
    """Every folder inside `folder` that holds neither files nor folders, sorted by path."""
    with storage_errors(f"Reading {folder}"):
        inner = ((Path(place), folders, files) for place, folders, files in os.walk(folder))
        found = [place.relative_to(folder) for place, folders, files in inner if not folders and not files]
    return sorted(str(path) for path in found if path.parts and path.parts[0] not in GIT_NAMES)


def open_plain(folder: Path, path: str) -> int:
    """A descriptor to read a file of the folder; never follows a link or waits for a pipe put there meanwhile."""
    return os.open(f"{folder}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))


def digest_of(folder: Path, path: str) -> Digest:
    """The digest of one file."""
    with os.fdopen(open_plain(folder, path), "rb", buffering=0) as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def entries_of(folder: Path, found: list[Found], progress: Progress | None = None) -> Iterator[Entry]:
    """The files with their digests, in order; hashed by as many threads as there are cores."""
    meter = Meter(progress, sum(item.size for item in found))
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool, storage_errors(f"Reading {folder}"):
        digests = pool.map(lambda item: digest_of(folder, item.path), found)
        for item, digest in zip(found, digests, strict=True):
            yield Entry(item.path, digest, item.size, item.executable)
            meter.add(item.size)


def check_folder(folder: Path, entries: tuple[Entry, ...], ignored: frozenset[str], progress: Progress | None) -> None:
    """Compare a folder with the signed list. Raises VerificationError that names what is missing, added or changed.

    Whether a file may be run counts where the list tells it, which it does where it tells sizes.
    """
    found = list_files(folder, skip=ignored)
    wanted = {entry.path: entry for entry in entries}
    paths = {item.path for item in found}
    if extra := sorted(paths - wanted.keys()):
        raise VerificationError(f"Not covered by the signature: {_some(extra)}.", hint="Remove it, or sign anew.")
    if missing := sorted(wanted.keys() - paths):
        raise VerificationError(f"Signed, but not there: {_some(missing)}.")
    for entry in entries_of(folder, found, progress):
        signed = wanted[entry.path]
        if signed.size is not None and entry.executable != signed.executable:
            is_now, was = ("a program", "a plain file") if entry.executable else ("a plain file", "a program")
            raise VerificationError(
                f"{entry.path!r} is {is_now} here; signed was {was}.",
                hint=f"If the bytes are right: chmod {'-x' if entry.executable else '+x'}",
            )
        if entry.digest != signed.digest:
            raise VerificationError(
                f"{entry.path!r} was changed: it has {entry.digest.short}…, signed was {signed.digest.short}…."
            )


def _some(paths: list[str]) -> str:
    shown = ", ".join(repr(path) for path in paths[:3])
    return f"{shown} and {len(paths) - 3} more" if len(paths) > 3 else shown
