"""Models that come in several files become one on their way into the store: one file to check, to load, to remove."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from pantry.core.errors import BadFileError
from pantry.core.files import TEMPORARY_PREFIX, storage_errors
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.formats.split import join, part_name, parts_beside

Arriving = tuple[str, Path, Digest]
"""The path of a file in its package, where it is now, and its digest."""


def joined(files: Sequence[Arriving], folder: Path) -> list[Arriving]:
    """The files, with the parts of each model replaced by the model, which is written into `folder`.

    Raises BadFileError when parts are missing or do not belong together, StorageError.
    """
    known = {path: place for path, place, _ in files}
    result: list[Arriving] = []
    for path, place, digest in files:
        part = part_name(path)
        if part is None:
            result.append((path, place, digest))
        elif part.number == 1:
            missing = [name for name in part.all if name not in known]
            if missing:
                raise BadFileError(f"{missing[0]} is missing: the model is in {part.count} files.")
            if part.whole in known:
                raise BadFileError(f"{part.whole} is there both whole and in parts.")
            out = folder / f"{TEMPORARY_PREFIX}{digest.hex}{Path(part.whole).suffix}"
            result.append((part.whole, out, _joined([known[name] for name in part.all], out)))
        elif part.all[0] not in known:
            raise BadFileError(f"{part.all[0]} is missing: the model is in {part.count} files.")
    return result


@contextlib.contextmanager
def whole_model(file: Path, folder: Path, progress: Progress | None = None) -> Iterator[Path]:
    """`file`, or the model that it is a part of, joined in `folder` for the time of the block.

    Raises BadFileError when a part is missing or they do not belong together, StorageError.
    """
    parts = parts_beside(file)
    if parts == [file]:
        yield file
        return
    with storage_errors(f"Joining {file.name}"):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=TEMPORARY_PREFIX, suffix=parts[0].suffix)
        os.close(descriptor)
    out = Path(name)
    try:
        _joined(parts, out, progress)
        yield out
    finally:
        out.unlink(missing_ok=True)


def _joined(parts: Sequence[Path], out: Path, progress: Progress | None = None) -> Digest:
    with storage_errors(f"Joining {parts[0].name}"), out.open("wb") as file:
        digest = join(parts, file, progress)
        file.flush()
        os.fsync(file.fileno())
    return digest
