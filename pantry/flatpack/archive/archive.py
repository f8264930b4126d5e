"""The `.fpk` archive: a tar stream in independent zstd frames, the signature bundle, the seek table, and nothing else.

    [zstd frame: the manifest] [zstd frame] … [skippable 0x184D2A5D: bundle] [skippable 0x184D2A5E: seek table]

The bundle's statement lists every file and every frame with its digest, signed or not. A reader takes nothing from
the tar headers: the whole tar stream must be the one that follows from the list (docs/adr/0010).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pantry.core.errors import BadFileError, UsageError
from pantry.core.files import remove_stale, staged_file
from pantry.core.progress import Meter, Progress
from pantry.core.refs import Digest
from pantry.flatpack.archive import _tar
from pantry.flatpack.archive._reader import Reader
from pantry.flatpack.archive._tail import write_tail
from pantry.flatpack.archive._writer import FrameWriter, opened
from pantry.flatpack.archive.bundle import Bundle
from pantry.flatpack.check import check_named_files, check_source
from pantry.flatpack.folder import Found, empty_folders, list_files, open_plain
from pantry.flatpack.manifest import MANIFEST_NAME, Manifest
from pantry.flatpack.statement import Entry, Statement, dump_statement

__all__ = ["SUFFIX", "Packed", "Reader", "pack"]

SUFFIX = ".fpk"
_SMALL = 64 << 10
"""Files up to this size are read and hashed in one go."""


@dataclass(frozen=True)
class Packed:
    """What `pack` made. `contents` is the digest over all files, the same for every packing of them.

    `left_out` are the empty folders, which a flatpack does not keep.
    """

    path: Path
    manifest: Manifest
    contents: Digest
    files: int
    content_size: int
    size: int
    left_out: tuple[str, ...] = ()


def pack(folder: Path, out: Path, *, level: int | None = 1, progress: Progress | None = None) -> Packed:
    """Pack `folder` into the unsigned flatpack `out`. The same input gives the same bytes.

    `level` is zstd's (1 to 22); None stores everything as it is. `progress` gets bytes done and bytes in all.
    Raises BadFileError for a manifest or DATASET.md that is not filled in, for files that the manifest names and that
    are not there, for links and unsafe names, and StorageError; nothing is left at `out` then.
    """
    if Path(os.path.realpath(out)).is_relative_to(os.path.realpath(folder)):
        raise UsageError(f"{out} lies inside the folder to be packed.", hint="Give a name outside it with -o.")
    manifest = check_source(folder)
    found = list_files(folder)
    check_named_files(manifest, folder, found)
    left_out = tuple(empty_folders(folder))
    found.sort(key=lambda item: item.path != MANIFEST_NAME)
    remove_stale(out)
    with staged_file(out) as file, FrameWriter(file, level) as writer:
        entries = tuple(_pack_files(folder, found, writer, progress))
        writer.write(_tar.END)
        writer.finish()
        statement = Statement(manifest.name, entries, tuple(writer.frames))
        write_tail(file, statement.frames, Bundle(dump_statement(statement)))
        size = file.tell()
    content_size = sum(entry.known_size for entry in entries)
    return Packed(out, manifest, statement.contents, len(entries), content_size, size, left_out)


def _pack_files(folder: Path, found: list[Found], writer: FrameWriter, progress: Progress | None) -> Iterator[Entry]:
    meter = Meter(progress, sum(item.size for item in found))
    for item in found:
        writer.write(_tar.header(item.path, item.size, item.executable))
        with opened(open_plain(folder, item.path)) as descriptor:
            if item.size <= _SMALL:
                digest = _pack_small(descriptor, item, writer)
                meter.add(item.size)
            else:
                digest = writer.copy(descriptor, item.size, item.path, meter)
        writer.write(_tar.padding(item.size))
        if item.path == MANIFEST_NAME:
            writer.end_frame()
        yield Entry(item.path, digest, item.size, item.executable)


def _pack_small(descriptor: int, item: Found, writer: FrameWriter) -> Digest:
    data = os.read(descriptor, item.size + 1)
    if len(data) != item.size:
        raise BadFileError(f"{item.path!r} changed while it was packed.", hint="Pack again when it is still.")
    writer.write(data)
    return Digest(hashlib.sha256(data).hexdigest())
