"""Temporary folders: gone at the end, and those of killed runs gone with the next run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from pantry.workshop.delta.room import room_beside

DIES = """
import os, sys, pathlib
from pantry.workshop.delta.room import room_beside
with room_beside(pathlib.Path(sys.argv[1])) as room:
    (room / "file").write_bytes(b"x")
    os._exit(0)
"""


def test_a_room_lies_beside_the_result_and_goes(tmp_path: Path) -> None:
    with room_beside(tmp_path / "new" / "out") as room:
        (room / "file").write_bytes(b"x")
        assert room.parent == tmp_path / "new"
    assert list((tmp_path / "new").iterdir()) == []


def test_only_abandoned_rooms_are_removed(tmp_path: Path) -> None:
    with room_beside(tmp_path / "out") as used:
        subprocess.run([sys.executable, "-c", DIES, str(tmp_path / "third")], check=True)
        (old,) = set(tmp_path.iterdir()) - {used}
        (tmp_path / "mine").mkdir()
        link = old.with_name(old.name[:-16] + "0" * 16)
        link.symlink_to(tmp_path / "mine")
        with room_beside(tmp_path / "other"):
            assert not old.exists()
            assert used.exists()
            assert (tmp_path / "mine").exists()
