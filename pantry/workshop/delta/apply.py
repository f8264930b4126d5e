"""Rebuilds the files of a delta on its base: checked, resumable, at their final names only when right."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from pantry.core.errors import BusyError, ConflictError, ForbiddenError, StorageError, VerificationError
from pantry.core.files import TEMPORARY_PREFIX, storage_errors, sync_folder
from pantry.core.locks import try_lock
from pantry.core.progress import Progress
from pantry.core.units import format_bytes
from pantry.workshop.delta._decode import Decoder
from pantry.workshop.delta._pipeline import in_order
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.match import MatchedBase, match_base
from pantry.workshop.delta.payload import Payload, Piece, ResultFile
from pantry.workshop.delta.sources import CHUNK, THREADS, Source, part_of

_AHEAD = THREADS + 1
SPARE_SPACE = 64_000_000  # bytes left free on the disk


def apply_delta(base: Source, delta: DeltaFolder, out: Path, progress: Progress | None = None) -> MatchedBase:
    """Rebuild the delta's files: several in the folder `out`, a single one at `out` (or inside it, if it is a folder).

    Everything is built under a temporary name beside `out` (in it, if it is a folder) and moved when all digests are
    right. What an
    interruption leaves is taken up again by the next call, tensor by tensor. Raises VerificationError for a wrong base
    (before any work) or a wrong result, BadFileError for a damaged delta, ConflictError when `out` is taken.
    """
    final = final_place(out, delta)
    read = bytes_to_match(delta)
    total = read + delta.payload.index.size
    matched = match_base(base, delta.table, delta.payload.index, part_of(progress, 0, total))
    with rebuilt(matched, delta, folder_to_work_in(final), part_of(progress, read, total)) as stage:
        move_into_place(stage, final, delta)
    return matched


def bytes_to_match(delta: DeltaFolder) -> int:
    """Bytes that are read to recognise its base by its files."""
    return sum(fact.size for fact in delta.table.bases[0].files)


@contextlib.contextmanager
def rebuilt(matched: MatchedBase, delta: DeltaFolder, folder: Path, progress: Progress | None = None) -> Iterator[Path]:
    """A folder below `folder` with the delta's files, whole and right, while the block runs; it may move them away.

    What an interruption leaves, in the block too, is taken up again by the next call. Raises as `apply_delta`.
    """
    with _stage(folder, delta) as stage:
        there = sum(file.stat().st_size for file in stage.rglob("*") if file.is_file())
        require_space(folder, delta.payload.index.size - there)
        _build_all(Decoder(matched, delta.payload), delta.payload, stage, progress)
        yield stage


@contextlib.contextmanager
def taken_up(delta: DeltaFolder, folder: Path) -> Iterator[Path]:
    """What `rebuilt` would give, where `is_whole` found it whole."""
    with _stage(folder, delta) as stage:
        yield stage


def is_whole(delta: DeltaFolder, folder: Path) -> bool:
    """Whether an interrupted run left all files of this delta below `folder`, with the right digests."""
    stage = _stage_of(folder, delta)
    for result in delta.payload.index.files:
        try:
            file = os.open(stage / result.path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:
            return False
        with storage_errors(f"Reading {result.path}"), os.fdopen(file, "rb") as opened:
            if os.fstat(file).st_size != result.size:
                return False
            if hashlib.file_digest(opened, "sha256").hexdigest() != result.digest:
                return False
    return True


def _is_single(delta: DeltaFolder) -> bool:
    files = delta.payload.index.files
    return len(files) == 1 and "/" not in files[0].path


def final_place(out: Path, delta: DeltaFolder) -> Path:
    """Where the result will be. Raises ConflictError when something is there but an empty folder."""
    if _is_single(delta) and out.is_dir():
        out = out / delta.payload.index.files[0].path
    if out.is_dir() and not _is_single(delta) and _is_empty(out):
        return out
    if out.exists() or out.is_symlink():
        raise ConflictError(f"{out} exists already.", hint="Give another name with -o, or remove it.")
    return out


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in it but what we work with."""
    with storage_errors(f"Reading {folder}"):
        return all(entry.name.startswith(TEMPORARY_PREFIX) for entry in folder.iterdir())


def folder_to_work_in(final: Path) -> Path:
    """Where the result grows: on its disk, in a folder that may be written to."""
    return final if final.is_dir() else final.parent


def _stage_of(folder: Path, delta: DeltaFolder) -> Path:
    return folder / f"{TEMPORARY_PREFIX}delta-{delta.identity[:16]}"


@contextlib.contextmanager
def _stage(folder: Path, delta: DeltaFolder) -> Iterator[Path]:
    """The folder where this very delta is built. An error empties it; an interruption leaves it."""
    stage = _stage_of(folder, delta)
    with storage_errors(f"Rebuilding {delta.manifest.name}"):
        stage.mkdir(parents=True, exist_ok=True)
        lock = os.open(stage, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid != os.getuid():
                raise ForbiddenError(f"{stage} belongs to another user.", hint="Choose another place with -o.")
            if not try_lock(lock):
                raise BusyError(f"{delta.manifest.name} is being rebuilt in {folder} right now.")
            try:
                yield stage
            except Exception:
                shutil.rmtree(stage, ignore_errors=True)
                raise
            shutil.rmtree(stage, ignore_errors=True)
        finally:
            os.close(lock)


def require_space(folder: Path, needed: int) -> None:
    """Raises StorageError unless the disk of `folder` has room for `needed` more bytes."""
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    free, needed = disk.f_bavail * disk.f_frsize, needed + SPARE_SPACE
    if needed > free:
        raise StorageError(
            f"The disk of {folder} has {format_bytes(free)} free; {format_bytes(needed)} are needed.",
            hint="Free some space, or choose a place on another disk.",
        )


def _build_all(decoder: Decoder, payload: Payload, stage: Path, progress: Progress | None) -> None:
    total, before = payload.index.size, 0
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for result, pieces in payload.placed():
                builder = _Builder(decoder, pool, result, pieces, stage / result.path)
                builder.build(partial(_report, progress, before, total))
                before += result.size
        finally:
            pool.shutdown(cancel_futures=True)


def _report(progress: Progress | None, before: int, total: int, done: int) -> None:
    if progress:
        progress(before + done, total)


@dataclass
class _Builder:
    """Builds one result file."""

    decoder: Decoder
    pool: ThreadPoolExecutor
    result: ResultFile
    pieces: list[tuple[Piece, int]]
    file: Path

    def build(self, report: Callable[[int], None]) -> None:
        """Write what is missing, and check the digest of the whole. Raises VerificationError."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b") as opened:
            whole, ready, done = self._take_up(opened)
            report(done)
            opened.truncate(done)
            for data in in_order(self.pool, _work, self._remaining(ready), _AHEAD):
                whole.update(data)
                opened.write(data)
                done += len(data)
                report(done)
            opened.flush()
            os.fsync(opened.fileno())
        if whole.hexdigest() != self.result.digest:
            raise VerificationError(
                f"The rebuilt {self.result.path!r} has digest {whole.hexdigest()[:12]}…, "
                f"{self.result.digest[:12]}… expected. It was not kept.",
                hint="The delta is damaged or was made wrong; fetch it again.",
            )

    def _take_up(self, opened: BinaryIO) -> tuple[hashlib._Hash, int, int]:
        """What an interrupted run left: the hash so far, how many pieces are right, and their bytes."""
        whole, done = hashlib.sha256(), 0
        for number, (piece, _) in enumerate(self.pieces):
            before = whole.copy()
            for start in range(0, piece.length, CHUNK):
                whole.update(opened.read(min(CHUNK, piece.length - start)))
            if whole.copy().hexdigest() != piece.digest:
                opened.seek(done)
                return before, number, done
            done += piece.length
        return whole, len(self.pieces), done

    def _remaining(self, ready: int) -> Iterator[partial[bytes]]:
        for piece, at in self.pieces[ready:]:
            yield from self.decoder.blocks(piece, at)


def _work(work: partial[bytes]) -> bytes:
    return work()


def move_into_place(stage: Path, final: Path, delta: DeltaFolder) -> None:
    """Put the finished files at their place: in one step, or one by one into a folder that was there before."""
    if _is_single(delta):
        built = stage / delta.payload.index.files[0].path
        try:
            os.link(built, final)
        except FileExistsError:
            raise ConflictError(
                f"{final} was created by another process meanwhile.", hint="Give another name with -o."
            ) from None
        except OSError:  # a file system without hard links
            built.replace(final)
    elif final.is_dir():
        if not _is_empty(final):
            raise ConflictError(f"Something appeared in {final} meanwhile.", hint="Give another name with -o.")
        for entry in sorted(stage.iterdir()):
            entry.rename(final / entry.name)
        sync_folder(final)
    else:
        stage.replace(final)
    sync_folder(final.parent)
