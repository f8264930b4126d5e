"""Unboxing to disk: into a fresh folder beside the target, which takes the target's name when all is checked."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from pantry.core.errors import ConflictError
from pantry.core.files import finish_folder, folder_beside, remove_stale, storage_errors, sync_folder

_FEW = 500
"""Files and folders up to which syncing each is quicker than syncing the file system, which others write to as well."""
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | getattr(os, "O_CLOEXEC", 0)


@contextlib.contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target`; on clean exit synced and renamed to `target`, otherwise removed.

    Raises ConflictError when `target` exists and is not an empty folder, and StorageError.
    """
    with storage_errors(f"Unboxing to {target}"):
        if target.exists() and target.samefile(Path.cwd()):
            # The finished folder takes the place of its target; who stands in it would be left in a removed one.
            raise ConflictError("The target is the folder you are in.", hint="Name a new one, like: ./unboxed")
        if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
            raise ConflictError(f"{target} is not an empty folder.", hint="Name a folder that does not exist yet.")
        target = Path(os.path.realpath(target))
        remove_stale(target)
        with folder_beside(target) as stage:
            yield stage
            _sync_tree(stage)
            finish_folder(stage, target)


def _sync_tree(stage: Path) -> None:
    """Bring the files to the disk: one by one, or with very many of them the whole file system that holds them."""
    inner = list(os.walk(stage, topdown=False))
    paths = [Path(place, name) for place, _, names in inner for name in (*names, ".")]
    if len(paths) > _FEW and (whole := _sync_file_system()):
        whole(stage)
        return
    for path in paths:
        sync_folder(path)


def _sync_file_system() -> Callable[[Path], None] | None:
    """syncfs(2) of Linux, which the standard library does not have; None elsewhere."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if call is None:
        return None

    def sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            if call(descriptor):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))
        finally:
            os.close(descriptor)

    return sync


class TreeWriter:
    """Writes new files below a fresh folder. Paths must have passed `pantry.flatpack.names`."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self._made = {""}

    def write(self, path: str, pieces: Iterator[memoryview] | Iterator[bytes], *, executable: bool) -> None:
        """Make a file, which must not exist, from the pieces."""
        folder = path.rpartition("/")[0]
        if folder not in self._made:
            Path(self._root, folder).mkdir(parents=True, exist_ok=True)
            self._made.add(folder)
        descriptor = os.open(f"{self._root}/{path}", _FLAGS, 0o755 if executable else 0o644)
        try:
            for piece in pieces:
                left = memoryview(piece)
                while left:
                    left = left[os.write(descriptor, left) :]
        finally:
            os.close(descriptor)
