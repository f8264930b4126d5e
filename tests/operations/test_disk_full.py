"""A disk that really fills up while a flatpack is pulled: a small file system of its own, mounted for the test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pantry.core.paths import Paths
from pantry.operations.repositories import add_repository
from tests.repository.flatpacks import Published, gguf, make_flatpack, trust_signer

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root; CI runs as root")
PULL = """
import sys
from pantry.repository import _partial, fetch
if "--unchecked" in sys.argv:  # without the check beforehand the write itself must fail cleanly
    _partial.check_space = fetch.check_space = lambda folder, needed: None
sys.argv = ["pantry", "pull", "big", "-q"]
from pantry.cli import main
main()
"""
SCRIPT = """
mount -t tmpfs -o size={size} none {data} || exit 99
mkdir -p {data}/repositories && cp -r {kept}/. {data}/
{python} {pull} {how}; echo exit $?
find {data}/blobs {data}/partial -type f ! -name '*.part' ! -name '*.json' 2>/dev/null
mount -o remount,size=300m {data}
{python} {pull}; echo exit $?
"""


@pytest.mark.parametrize(
    ("size", "how"),
    [("6m", ""), ("6m", "--unchecked"), ("9m", "--unchecked")],
    ids=["refused before", "while downloading", "while unboxing"],
)
def test_a_pull_keeps_nothing_half_done_and_goes_on_when_there_is_room(
    paths: Paths, home: Path, tmp_path: Path, size: str, how: str
) -> None:
    lab = Published(tmp_path / "lab").create()
    lab.publish(make_flatpack(tmp_path / "work", "big", content=gguf("big") + os.urandom(5_000_000)))
    trust_signer(paths)
    add_repository(paths, "lab", str(lab.folder), lab.folder / "root.json")
    kept = paths.data.rename(tmp_path / "kept")
    paths.data.mkdir()
    pull = tmp_path / "pull.py"
    pull.write_text(PULL)
    script = SCRIPT.format(size=size, data=paths.data, kept=kept, python=sys.executable, pull=pull, how=how)
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script],
        env={**os.environ, "PANTRY_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "exit 12\nbig 1.0.0 is installed.\nexit 0\n", done
    assert "Traceback" not in done.stderr
    assert ("are needed" if not how else "is full") in done.stderr
