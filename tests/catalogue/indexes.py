"""Indexes of the catalogue, built once in a run of the tests: each other home gets a copy, as if it had been used."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import sqlite3
import tempfile
from pathlib import Path
from typing import Any

from pantry.catalogue import lookup


@functools.cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="pantry-indexes-", ignore_cleanup_errors=True)


def shared_folder() -> str:
    """Where this run keeps the indexes that it built, by their fingerprints."""
    return _folder().name


def share_indexes(folder: str) -> None:
    """Take the index of a home from `folder` where it has none, and keep there what is built.

    An index is used only where its fingerprint says that it fits, and a damaged one is built again: as ever.
    """
    opened, built = lookup.open_index, lookup.build_index

    def open_index(file: Path, mark: str) -> sqlite3.Connection | None:
        with contextlib.suppress(OSError):
            if not file.exists() and Path(folder, mark).exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                _copy(Path(folder, mark), file)
        return opened(file, mark)

    def build_index(file: Path | None, mark: str, *content: Any) -> sqlite3.Connection:
        connection = built(file, mark, *content)
        with contextlib.suppress(OSError):
            if file is not None and file.exists():
                _copy(file, Path(folder, mark))
        return connection

    lookup.open_index, lookup.build_index = open_index, build_index  # type: ignore[assignment]


def _copy(source: Path, target: Path) -> None:
    unfinished = target.with_name(f".tmp-{secrets.token_hex(8)}")
    shutil.copyfile(source, unfinished)
    os.replace(unfinished, target)  # noqa: PTH105 (tests stand in for Path.replace)
