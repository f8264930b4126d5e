"""A temporary folder on the disk of the result, removed at the end, or by the next run where this one is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pantry.core.files import folder_beside, remove_stale, storage_errors


@contextlib.contextmanager
def room_beside(out: Path) -> Iterator[Path]:
    """A folder beside `out`, or in it if it is a folder, locked while it is in use.

    Rooms there that nobody holds any more are removed first.
    """
    room = (out.absolute() if out.is_dir() else out.absolute().parent) / "room"
    with contextlib.ExitStack() as stack:
        with storage_errors(f"Writing beside {out}"):
            remove_stale(room)
            folder = stack.enter_context(folder_beside(room))
        yield folder
