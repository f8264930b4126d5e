"""The forked `pantry` processes of the tests behave like real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import PantryProcess, run_pantry

REAL = [sys.executable, "-W", "error", "-m", "pantry"]


@pytest.mark.parametrize(
    ("words", "stdin"),
    [
        (["list"], ""),
        (["lst"], ""),
        (["show", "none"], ""),
        (["pack", "here"], ""),
        (["key", "new", "me", "--type", "p256", "--passphrase-stdin"], ""),
        (["open", "pantry://load/fox"], "n\n"),
    ],
    ids=" ".join,
)
def test_output_errors_and_exit_code_are_those_of_a_real_process(tmp_path: Path, words: list[str], stdin: str) -> None:
    found = []
    for name, run in (("real", _run), ("forked", run_pantry)):
        folder = tmp_path / name
        (folder / "here").mkdir(parents=True)
        environment = {**os.environ, "PANTRY_HOME": "home", "COLUMNS": "100", "LANG": "C.UTF-8"}
        done = run(*words, env=environment, cwd=folder, stdin=stdin)
        assert (folder / "home").exists() == (tmp_path / "real" / "home").exists()
        found.append((done.returncode, done.stdout, done.stderr.replace(str(folder), "FOLDER")))
    assert found[0] == found[1]


def _run(*words: str, env: dict[str, str], cwd: Path, stdin: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*REAL, *words], env=env, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_a_signal_ends_it_as_it_ends_a_real_process(number: signal.Signals, code: int, home: Path) -> None:
    """It waits for a line on its standard input."""
    process = PantryProcess("open", "pantry://load/fox", env=os.environ)
    assert process.stdout.readline()
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.01)
    process.send_signal(number)
    process.communicate(timeout=20)
    assert process.returncode == process.poll() == code


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_processes_share_no_descriptor_and_no_environment(tmp_path: Path) -> None:
    waiting = PantryProcess("open", "pantry://load/fox", env=os.environ, cwd=tmp_path)
    assert waiting.stdout.readline()
    facts = Path(f"/proc/{waiting.pid}")
    opened = sorted(int(each.name) for each in (facts / "fd").iterdir())
    assert opened == [0, 1, 2]
    assert (facts / "cwd").readlink() == tmp_path
    other = PantryProcess("open", "pantry://load/fox", env=os.environ)
    assert other.communicate("n\n")[0].endswith("Nothing was done.\n")
    assert waiting.communicate("n\n")[0].endswith("Nothing was done.\n")
