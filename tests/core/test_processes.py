"""Processes are told from later ones with the same number."""

import subprocess
import sys

from pantry.core.processes import process_mark


def test_a_process_keeps_its_mark_and_has_none_when_it_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mark = process_mark(process.pid)
        assert mark is not None
        assert process_mark(process.pid) == mark
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.wait()
        assert process_mark(process.pid) is None


def test_a_zombie_is_no_process_any_more() -> None:
    with subprocess.Popen(["sleep", "0"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read()  # it has ended, and nobody has asked for its code
        while process_mark(process.pid) is not None:
            pass


def test_this_process_has_a_mark() -> None:
    assert process_mark() is not None
