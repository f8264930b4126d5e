"""Reading an archive. A reader believes nothing but the statement: all bytes must be the ones that follow from it."""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pantry.core.errors import BadFileError, NotFoundError, VerificationError, did_you_mean
from pantry.core.files import storage_errors
from pantry.core.progress import Meter, Progress
from pantry.flatpack.archive import _tar
from pantry.flatpack.archive._stream import Placed, Stream, checked_frame, content_of, contents, place
from pantry.flatpack.archive._tail import read_tail
from pantry.flatpack.archive._unbox import TreeWriter, staged_folder
from pantry.flatpack.archive._workers import workers_for
from pantry.flatpack.archive.bundle import dump_bundle, load_bundle
from pantry.flatpack.manifest import MANIFEST_LIMIT, MANIFEST_NAME, Manifest, parse_manifest
from pantry.flatpack.names import BUNDLE_NAME
from pantry.flatpack.statement import Entry, in_canonical_order, load_statement

if TYPE_CHECKING:
    from pantry.flatpack.archive.verdict import Verdict

READ_LIMIT = 64 << 20
"""Largest file that `Reader.read` gives in one piece, in bytes."""


class Reader:
    """An open flatpack: its list of files, its manifest, and the way to get them out. Use as a context manager.

    Opening reads the tail only and checks that list, seek table and file fit together; it checks no signature
    (`pantry.flatpack.signing.signature` does). Raises BadFileError for anything that is not exactly a flatpack, and
    StorageError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with storage_errors(f"Reading {path}"):
            # Not blocking, since a pipe without a writer would wait for ever; files do not mind.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
            try:
                if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                    raise BadFileError(f"{path} is not a plain file; expected a flatpack.")
                self._open()
            except BaseException:
                self.close()
                raise

    def _open(self) -> None:
        name = self.path.name
        tail = read_tail(self._descriptor, name)
        self.data_size = tail.data_size
        self.bundle_bytes = tail.bundle
        self.bundle = load_bundle(tail.bundle)
        if dump_bundle(self.bundle) != tail.bundle:
            raise BadFileError(f"{name}: the signature bundle is not in its one form; something was changed.")
        self.statement = load_statement(self.bundle.payload)
        self.entries = self.statement.entries
        self._placed = place(self.statement.frames)
        self._workers = workers_for(max((frame.content for frame in self.statement.frames), default=0))
        if [(frame.size, frame.content) for frame in self.statement.frames] != tail.frames:
            raise BadFileError(f"{name}: the seek table and the statement tell of different frames.")
        if not in_canonical_order(self.entries, MANIFEST_NAME):
            raise BadFileError(f"{name}: the files are not in order, or {MANIFEST_NAME} is not the first.")
        wanted, found = _tar.stream_size(self.entries), sum(frame.content for frame in self.statement.frames)
        if wanted != found:
            raise BadFileError(f"{name}: the frames hold {found} bytes; the files listed need {wanted}.")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; more than once is fine."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    @property
    def descriptor(self) -> int:
        """The open file, for copying its data elsewhere."""
        return self._descriptor

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest, its bytes checked. Raises BadFileError when it is bad or not of the statement's name."""
        content = self.read(MANIFEST_NAME, MANIFEST_LIMIT)
        manifest = parse_manifest(content, f"{self.path.name}: {MANIFEST_NAME}")
        if manifest.name != self.statement.name:
            raise BadFileError(f"The statement is for {self.statement.name!r}, the manifest for {manifest.name!r}.")
        return manifest

    def read(self, name: str, limit: int = READ_LIMIT) -> bytes:
        """One file of at most `limit` bytes, checked. Raises NotFoundError, BadFileError or VerificationError."""
        wanted = self._places({name})
        if not wanted:
            paths = (entry.path for entry in self.entries)
            raise NotFoundError(f"{self.path.name} has no file {name!r}.", hint=did_you_mean(name, paths))
        ((entry, start),) = wanted
        if entry.known_size > limit:
            raise BadFileError(f"{name!r} has {entry.known_size} bytes; at most {limit} are read at once.")
        with storage_errors(f"Reading {self.path}"):
            frames = self._frames_of(wanted)
            stream = Stream((placed.start, content_of(self._descriptor, placed)) for placed in frames)
            return b"".join(_member(stream, entry, start, Meter(None, 0)))

    def check(self, progress: Progress | None = None) -> None:
        """Check the bytes of every frame against the statement, on all cores. Raises VerificationError."""
        meter = Meter(progress, self.data_size)
        with ThreadPoolExecutor(self._workers) as pool, storage_errors(f"Reading {self.path}"):
            try:
                for size in pool.map(lambda placed: len(checked_frame(self._descriptor, placed)), self._placed):
                    meter.add(size)
            finally:
                pool.shutdown(cancel_futures=True)

    def check_contents(self, progress: Progress | None = None) -> None:
        """Decode everything and check every frame, header and file. Raises BadFileError or VerificationError."""
        with storage_errors(f"Reading {self.path}"):
            for _, pieces in self._files(None, progress):
                for _ in pieces:
                    pass

    @property
    def tar_size(self) -> int:
        """The length of the tar stream in bytes."""
        return sum(frame.content for frame in self.statement.frames)

    def tar_stream(self, progress: Progress | None = None) -> Iterator[bytes]:
        """The tar stream in pieces, every frame checked (not the files; `check_contents` does that)."""
        meter = Meter(progress, self.tar_size)
        with contextlib.closing(contents(self._descriptor, self._placed, self._workers)) as chunks:
            for _, chunk in chunks:
                yield chunk
                meter.add(len(chunk))

    def unbox(
        self,
        target: Path,
        only: str | Iterable[str] | None = None,
        verified_by: Verdict | None = None,
        progress: Progress | None = None,
    ) -> list[Entry]:
        """Write the files to the new folder `target` and return them; each is checked while it is written.

        `only` takes shell patterns of paths. A `verified_by` must be of this very flatpack and accept it. The bundle
        of a signed flatpack is put beside the files as `model.sig`, unless `only` leaves some out. Raises
        ConflictError if `target` holds something, NotFoundError if no file matches, VerificationError or BadFileError
        if anything differs from the statement; nothing is left at `target` then.
        """
        if verified_by is not None:
            verified_by.require(self.bundle)
        chosen = None if only is None else self._matching([only] if isinstance(only, str) else list(only))
        written = []
        with staged_folder(target) as stage:
            tree = TreeWriter(stage)
            for entry, pieces in self._files(chosen, progress):
                tree.write(entry.path, pieces, executable=entry.executable)
                written.append(entry)
            if self.bundle.signatures and chosen is None:
                tree.write(BUNDLE_NAME, iter([self.bundle_bytes]), executable=False)
        return written

    def _matching(self, patterns: list[str]) -> set[str]:
        paths = [entry.path for entry in self.entries]
        chosen = {path for path in paths for pattern in patterns if fnmatch.fnmatchcase(path, pattern)}
        if not chosen:
            raise NotFoundError(
                f"No file of {self.path.name} matches {', '.join(map(repr, patterns))}.",
                hint=did_you_mean(patterns[0] if patterns else "", paths, "`pantry inspect` lists the files."),
            )
        return chosen

    def _files(
        self, chosen: set[str] | None, progress: Progress | None
    ) -> Iterator[tuple[Entry, Iterator[memoryview]]]:
        """Each chosen file with its bytes, which the caller uses up before the next; checked in passing."""
        wanted = self._places(chosen)
        frames = self._placed if chosen is None else self._frames_of(wanted)
        meter = Meter(progress, sum(entry.known_size for entry, _ in wanted))
        with contextlib.closing(contents(self._descriptor, frames, self._workers)) as chunks:
            stream = Stream(chunks)
            for entry, start in wanted:
                yield entry, _member(stream, entry, start, meter)
            if chosen is None:
                _match(stream, _tar.END, "the end mark")

    def _places(self, chosen: set[str] | None) -> list[tuple[Entry, int]]:
        """The chosen files, each with where its header begins in the stream."""
        found, start = [], 0
        for entry in self.entries:
            if chosen is None or entry.path in chosen:
                found.append((entry, start))
            start += _tar.span(entry)
        return found

    def _frames_of(self, wanted: list[tuple[Entry, int]]) -> Iterator[Placed]:
        """The frames that hold any part of the wanted files, in order."""
        spans = [(start, start + _tar.span(entry)) for entry, start in wanted]
        at = 0
        for placed in self._placed:
            while at < len(spans) and spans[at][1] <= placed.start:
                at += 1
            if at == len(spans):
                return
            if spans[at][0] < placed.end:
                yield placed


def _member(stream: Stream, entry: Entry, start: int, meter: Meter) -> Iterator[memoryview]:
    """The bytes of one member; its header, digest and padding are checked before the end of the iteration."""
    stream.seek(start)
    _match(stream, _tar.header(entry.path, entry.known_size, entry.executable), f"the file {entry.path!r}")
    digest = hashlib.sha256()
    for piece in stream.take(entry.known_size):
        digest.update(piece)
        yield piece
        meter.add(len(piece))
    if digest.hexdigest() != entry.digest.hex:
        raise VerificationError(
            f"{entry.path!r} does not have its digest: it has {digest.hexdigest()[:12]}…, "
            f"expected was {entry.digest.short}…."
        )
    _match(stream, _tar.padding(entry.known_size), f"the padding after {entry.path!r}")


def _match(stream: Stream, wanted: bytes, what: str) -> None:
    """The next bytes of the stream must be these. Raises BadFileError that says what stands there instead."""
    position = stream.position
    found = stream.read(len(wanted))
    if found != wanted:
        there = _tar.describe(found) if len(found) >= _tar.BLOCK else "other bytes"
        raise BadFileError(f"At byte {position} of the tar stream {what} was expected; there is {there}.")
