"""A base or a target: one file, or a folder of files, with all its tensors by name."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.files import TEMPORARY_PREFIX, storage_errors
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.formats.layout import Layout, OpenFile, Tensor
from pantry.formats.tensor_files import read_layout

THREADS = 2
"""Threads that work on one delta; memory grows with them."""
CHUNK = 4 << 20  # bytes hashed at a time


def part_of(progress: Progress | None, before: int, total: int) -> Progress | None:
    """What reports on a part of the work: `before` bytes were done when it began, of `total` in all."""
    return (lambda done, _: progress(before + done, total)) if progress else None


@dataclass(frozen=True)
class SourceFile:
    """One file: its path inside the source with forward slashes, and where its tensors lie."""

    path: str
    file: OpenFile
    layout: Layout
    known: Digest | None = None
    """The SHA-256 of the whole file, where it was checked before."""

    @cached_property
    def digest(self) -> Digest:
        """The SHA-256 of the whole file, computed at most once."""
        return self.hashed(lambda _: None)

    def hashed(self, report: Callable[[int], None]) -> Digest:
        """The digest; while it is computed, `report` is told of the bytes that were read."""
        if "digest" not in self.__dict__:
            found = self.known or Digest(_hash_range(self, 0, self.layout.size, report).hexdigest())
            self.__dict__["digest"] = found
        return self.digest


@dataclass(frozen=True)
class Located:
    """A tensor and the file that holds it."""

    file: SourceFile
    tensor: Tensor

    def read(self, start: int, length: int) -> bytes:
        """Bytes of the tensor. Raises BadFileError when the file is shorter than it was."""
        return self.file.file.read(self.tensor.start + start, length)


class Source:
    """The files of a base or target, held open."""

    def __init__(self, title: str, files: tuple[SourceFile, ...], *, is_file: bool) -> None:
        self.title, self.files, self.is_file = title, files, is_file
        self.by_path = {file.path: file for file in files}
        self.tensors: dict[str, Located] = {}
        for file in files:
            for tensor in file.layout.tensors:
                self.tensors.setdefault(tensor.name, Located(file, tensor))

    @classmethod
    def open(cls, root: Path, title: str | None = None) -> Source:
        """Open a file, or every file below a folder (hidden and unfinished ones are left out).

        `title` is how it is called, and a single file's name, where that is not the name on disk.

        Raises NotFoundError when there is nothing, BadFileError when a model file is damaged, StorageError.
        """
        if not root.exists():
            raise NotFoundError(f"There is no file or folder {root}.")
        is_file = not root.is_dir()
        called = title or root.absolute().name
        if is_file:
            return cls.gather(called, [(called, root, None)], is_file=True)
        found = [(path.relative_to(root).as_posix(), path, None) for path in sorted(_files_below(root))]
        if not found:
            raise NotFoundError(f"The folder {root} holds no files.")
        return cls.gather(called, found, is_file=False)

    @classmethod
    def gather(cls, title: str, named: Iterable[tuple[str, Path, Digest | None]], *, is_file: bool) -> Source:
        """Open files that lie anywhere: (path inside the source, place on disk, digest where it was checked before).

        Raises BadFileError when a model file is damaged, StorageError.
        """
        with ExitStack() as opened:
            files = []
            for name, path, digest in named:
                layout = read_layout(path, name)
                file = OpenFile(path)
                opened.callback(file.close)
                files.append(SourceFile(name, file, layout, digest))
            opened.pop_all()
        return cls(title, tuple(files), is_file=is_file)

    @cached_property
    def contents(self) -> Digest:
        """A digest over the tensors alone, the same for every file format, cut and order that holds them.

        SHA-256 over one line of JSON per tensor, sorted by name: `["name","dtype",[shape],"sha256"]`.
        """
        return self.hash_contents()

    def hash_contents(self, progress: Progress | None = None) -> Digest:
        """The digest `contents`, computed at most once; `progress` hears of the bytes of tensors."""
        if "contents" in self.__dict__:
            return self.contents
        names = sorted(self.tensors)
        total, done = self.tensor_bytes, 0
        with ThreadPoolExecutor(THREADS) as pool:
            digests = pool.map(lambda name: hash_tensor(self.tensors[name]), names)
            whole = hashlib.sha256()
            for name, digest in zip(names, digests, strict=True):
                tensor = self.tensors[name].tensor
                line = json.dumps([name, tensor.dtype, tensor.shape, digest], separators=(",", ":"))
                whole.update(f"{line}\n".encode())
                done += tensor.length
                if progress:
                    progress(done, total)
        self.__dict__["contents"] = found = Digest(whole.hexdigest())
        return found

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(located.tensor.length for located in self.tensors.values())

    def hash_files(self, paths: list[str], progress: Progress | None = None) -> None:
        """Compute the digests of these files, by two threads."""
        hash_all([self.by_path[path] for path in paths], progress)

    def close(self) -> None:
        """Close all files."""
        for file in self.files:
            file.file.close()

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def hash_tensor(located: Located) -> str:
    """The SHA-256 of a tensor's bytes, in hex."""
    tensor = located.tensor
    return _hash_range(located.file, tensor.start, tensor.length).hexdigest()


def hash_all(files: Sequence[SourceFile], progress: Progress | None = None) -> None:
    """Compute the digests of these files, by two threads; `progress` hears of the bytes as they are read."""
    first_other([(file, None) for file in files], progress)


def first_other(
    wanted: Sequence[tuple[SourceFile, Digest | None]], progress: Progress | None = None
) -> SourceFile | None:
    """The first file with another digest than the one beside it, which may be None: any will do.

    Two threads compute the digests; when that file is found, the rest is left.
    """
    total, done, lock = sum(file.layout.size for file, _ in wanted), 0, threading.Lock()
    found = threading.Event()

    def report(count: int) -> None:
        nonlocal done
        if found.is_set():
            raise _FoundError
        with lock:
            done += count
            if progress:
                progress(done, total)

    def differs(pair: tuple[SourceFile, Digest | None]) -> bool:
        return pair[0].hashed(report) != pair[1] is not None

    with ThreadPoolExecutor(THREADS) as pool:
        for (file, _), other in zip(wanted, pool.map(differs, wanted), strict=True):
            if other:
                found.set()
                pool.shutdown(wait=False, cancel_futures=True)
                return file
    return None


class _FoundError(Exception):
    """Ends the work of the other thread."""


def _hash_range(
    file: SourceFile, start: int, length: int, report: Callable[[int], None] = lambda _: None
) -> hashlib._Hash:
    hasher = hashlib.sha256()
    for at in range(start, start + length, CHUNK):
        data = file.file.read(at, min(CHUNK, start + length - at))
        hasher.update(data)
        report(len(data))
    return hasher


def _files_below(root: Path) -> Iterator[Path]:
    with storage_errors(f"Reading {root}"), os.scandir(root) as entries:
        for entry in entries:
            if entry.name.startswith((".", TEMPORARY_PREFIX)):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(Path(entry.path))
            elif entry.is_file():
                yield Path(entry.path)
            else:
                raise BadFileError(f"{entry.path} is neither a file nor a folder with files.")
