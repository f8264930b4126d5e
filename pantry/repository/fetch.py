"""The downloader: one file by HTTP Range requests, resumed after any interruption, checked before anyone sees it."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pantry.core.errors import (
    BadFileError,
    DownloadError,
    NotFoundError,
    VerificationError,
)
from pantry.core.files import storage_errors
from pantry.core.locks import is_locked, locked
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.core.units import format_bytes
from pantry.repository._download import RANGE, Download, DownloadTarget, StartOver, Tries, refusal
from pantry.repository._http import Interrupted, Response, open_response
from pantry.repository._partial import UNBOX_PREFIX, Partial, check_space, clean_partials
from pantry.repository.limits import Limits

__all__ = ["DownloadTarget", "Fetcher", "Progress", "Tries"]


@dataclass(frozen=True)
class Fetcher:
    """Fetches files into `folder`, where unfinished ones wait to be continued."""

    folder: Path
    limits: Limits = field(default_factory=Limits)

    @contextlib.contextmanager
    def fetched(
        self, wanted: DownloadTarget, progress: Progress | None = None, waiting: Callable[[], None] | None = None
    ) -> Iterator[Path]:
        """The complete file, its length and digest checked, for the time of the block; the block may move it away.

        One process at a time holds a file; `waiting` is called when another one does. When the block ends well, or
        finds the file bad (BadFileError), what is left of it is deleted; after any other end it waits for the next
        try. Raises DownloadError, NotFoundError, VerificationError or StorageError; what came stays, to be continued.
        """
        path = self.folder / f"{wanted.key}.part"
        with locked(self.folder / f"{wanted.key}.lock", waiting):
            self._fetch(wanted, path, progress)
            try:
                yield path
            except BadFileError:
                self._drop(path)
                raise
            self._drop(path)

    @contextlib.contextmanager
    def copied(
        self,
        source: Path,
        digest: Digest,
        length: int,
        progress: Progress | None = None,
        waiting: Callable[[], None] | None = None,
    ) -> Iterator[Path]:
        """A copy of a file of this machine, checked like a download, for the time of the block.

        Raises NotFoundError, VerificationError or StorageError.
        """
        if not source.is_file():
            raise NotFoundError(f"There is no {source}.")
        path = self.folder / f"{digest.hex}.part"
        with locked(self.folder / f"{digest.hex}.lock", waiting):
            try:
                found = _copy(source, path, length, progress)
                if found != digest.hex:
                    raise VerificationError(
                        f"{source} is not what was published: its digest or length is another than {digest.short}….",
                        hint="Someone changed the file. Nothing of it was kept.",
                    )
                yield path
            finally:
                self._drop(path)

    @contextlib.contextmanager
    def folder_for(self, digest: Digest) -> Iterator[Path]:
        """A folder name, free to be made, for files on their way into the store; it is gone at the end.

        What a killed process left of the same files goes first.
        """
        prefix = f"{UNBOX_PREFIX}{digest.hex[:16]}-"
        for left in self.folder.glob(f"{prefix}*[0-9a-f]"):
            if left.is_dir() and not is_locked(left.with_suffix(".lock")):
                shutil.rmtree(left, ignore_errors=True)
        folder = self.folder / f"{prefix}{secrets.token_hex(4)}"
        with locked(folder.with_suffix(".lock")):
            try:
                folder.mkdir()
                yield folder / "files"
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def kept_folder(self, digest: Digest) -> Iterator[Path]:
        """A folder for long work on a flatpack: gone at the end or after an error, kept after an interruption.

        One process at a time has it; what an interrupted one left is there for the next.
        """
        folder = self.folder / f"{UNBOX_PREFIX}work-{digest.hex[:32]}"
        with locked(folder.with_suffix(".lock")):
            with storage_errors(f"Making {folder.name}"):
                folder.mkdir(exist_ok=True)
            try:
                yield folder
            except Exception:
                shutil.rmtree(folder, ignore_errors=True)
                raise
            shutil.rmtree(folder, ignore_errors=True)

    def learn_length(self, wanted: DownloadTarget) -> DownloadTarget:
        """`wanted` with the length that the server tells. Raises DownloadError when it tells none or too much."""
        with self._open(wanted, {"Range": "bytes=0-0"}) as response:
            length = response.length if response.status == 200 else None
            if response.status == 206 and (found := RANGE.fullmatch(response.header("Content-Range"))):
                length = int(found[3]) if found[3] != "*" else None
        if length is None:
            raise DownloadError(f"{wanted.url.shown}: the server does not say how long the file is.")
        if length > self.limits.max_length:
            most = format_bytes(self.limits.max_length)
            raise DownloadError(f"{wanted.url.shown} is {format_bytes(length)} long; at most {most} are fetched.")
        return replace(wanted, length=length)

    def clean(self, older_than: float) -> int:
        """Delete partial files untouched for `older_than` seconds; the bytes freed."""
        return clean_partials(self.folder, older_than)

    def _fetch(self, wanted: DownloadTarget, path: Path, progress: Progress | None) -> None:
        sized = wanted if wanted.length is not None else self.learn_length(wanted)
        limits = self.limits
        for left in range(self.limits.attempts, -1, -1):
            partial = Partial.open(path, sized.length or 0, str(sized.url))
            try:
                found = Download(sized, partial, limits, progress).run()
            except StartOver as reason:
                if not left:
                    raise DownloadError(f"{sized.url.shown} could not be fetched: {reason}.") from None
                limits = replace(limits, connections=1)
                partial.forget()
                partial.save()
                continue
            finally:
                partial.close()
            if wanted.digest is None or found == wanted.digest.hex:
                return
            self._drop(path)
            if not partial.resumed:
                raise VerificationError(
                    f"{wanted.url.shown} has the digest sha256:{found[:12]}…; expected was {wanted.digest.short}….",
                    hint="Someone changed the file, or a proxy did. Nothing of it was kept.",
                )

    def _open(self, wanted: DownloadTarget, headers: Mapping[str, str]) -> Response:
        """A response to be looked at, tried again while faults may pass. Raises DownloadError or NotFoundError."""
        tries = Tries(self.limits)
        while True:
            try:
                response = open_response(wanted.url, {**wanted.headers, **headers}, self.limits)
            except Interrupted as fault:
                tries.failed(fault, wanted.url, threading.Event())
                continue
            if response.status >= 400:
                response.close()
                raise refusal(wanted.url, response.status)
            return response

    @staticmethod
    def _drop(path: Path) -> None:
        with storage_errors(f"Removing {path.name}"):
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)


def _copy(source: Path, target: Path, length: int, progress: Progress | None) -> str:
    """Copy at most `length` bytes, hashing on the way; the SHA-256 in hex, empty when there are more bytes."""
    hasher, done = hashlib.sha256(), 0
    with storage_errors(f"Copying {source}"), source.open("rb") as file, target.open("wb") as out:
        check_space(target.parent, length)
        while data := file.read(1 << 20):
            done += len(data)
            if done > length:
                return ""
            hasher.update(data)
            out.write(data)
            if progress:
                progress(done, length)
    return hasher.hexdigest()
