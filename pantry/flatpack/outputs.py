"""Where a result may be written: never over what it is made from, and over another file only if that is of its kind."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

from zstandard import FRAME_HEADER

from pantry.core.errors import ConflictError, UsageError
from pantry.core.files import storage_errors
from pantry.flatpack.archive._frames import SEEK_FOOTER_MAGIC
from pantry.flatpack.legacy.archive import is_legacy

_HEAD = 16 << 10
"""Bytes at the start of a file that tell its kind."""

IsOfKind = Callable[[Path, bytes], bool]
"""Whether the file, which begins with these bytes, may be replaced by a new one of the same kind."""


def check_output(out: Path, kind: str, is_of_kind: IsOfKind, inputs: Iterable[Path] = ()) -> None:
    """Raises unless a result of `kind` (with its article: "a flatpack") may be written to `out`.

    UsageError where `out` is one of the `inputs`, by another name or through a link as well; ConflictError where a
    file is there already that is not empty and not of that kind.
    """
    for source in inputs:
        if out.exists() and source.exists() and out.samefile(source):
            raise UsageError(f"{out} is both read and written here.", hint="Name another file to write.")
    with storage_errors(f"Reading {out}"):
        try:
            state = out.stat()
        except FileNotFoundError:
            return
        if not stat.S_ISREG(state.st_mode):
            what = "a folder" if stat.S_ISDIR(state.st_mode) else "a device, pipe or socket"
            raise ConflictError(f"{out} is {what}, not a file.", hint="Name a file to write.")
        with out.open("rb") as file:
            head = file.read(_HEAD)
    if head and not is_of_kind(out, head):
        raise ConflictError(
            f"{out} exists already and is not {kind}.", hint="Name another file to write, or remove that one first."
        )


def is_flatpack(path: Path, head: bytes) -> bool:
    """Whether the file begins and ends like a flatpack of version 2."""
    return head.startswith(FRAME_HEADER) and _end(path, 4) == SEEK_FOOTER_MAGIC.to_bytes(4, "little")


def is_legacy_flatpack(path: Path, head: bytes) -> bool:
    """Whether the file is a signed flatpack of 2023."""
    return head.startswith(FRAME_HEADER) and is_legacy(path)


def is_compressed(path: Path, head: bytes) -> bool:
    """Whether the file is plain zstd: neither a flatpack of version 2 nor signed as in 2023."""
    return head.startswith(FRAME_HEADER) and not is_flatpack(path, head) and not is_legacy(path)


def is_croissant(path: Path, head: bytes) -> bool:
    """Whether the file is JSON-LD in the Croissant vocabulary."""
    return head.lstrip().startswith(b"{") and b'"@context"' in head and b"mlcommons.org/croissant" in head


def is_hf_card(path: Path, head: bytes) -> bool:
    """Whether the file is a README.md with the front matter of a hub card."""
    return head.startswith(b"---\n") and b"\n---\n" in head and b"license" in head.partition(b"\n---\n")[0]


def _end(path: Path, size: int) -> bytes:
    with storage_errors(f"Reading {path}"), path.open("rb") as file:
        file.seek(-min(size, path.stat().st_size), os.SEEK_END)
        return file.read(size)
