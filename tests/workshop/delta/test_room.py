"""Temporary folders: gone at the end, and those of killed runs gone with the next run."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pantry.workshop.delta.room import PREFIX, room_beside


def test_a_room_lies_beside_the_result_and_goes(tmp_path: Path) -> None:
    with room_beside(tmp_path / "new" / "out") as room:
        (room / "file").write_bytes(b"x")
        assert room.parent == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []


def test_only_abandoned_rooms_are_removed(tmp_path: Path) -> None:
    old, young, mine = (tmp_path / f"{PREFIX}{name}" for name in ("old", "young", "linked"))
    for folder in (old, young):
        folder.mkdir()
        (folder / "file").write_bytes(b"x")
    (tmp_path / "mine").mkdir()
    mine.symlink_to(tmp_path / "mine")
    with room_beside(tmp_path / "out") as used:
        for folder in (old, used):
            os.utime(folder, (time.time() - 1000,) * 2)
        with room_beside(tmp_path / "other"):
            assert not old.exists()
            assert young.exists()
            assert used.exists()
            assert (tmp_path / "mine").exists()
