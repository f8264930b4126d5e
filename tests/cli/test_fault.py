"""A command that breaks: one message that names the log, and the traceback in it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import typer

from pantry.cli._app import app_for
from pantry.cli._fault import without_values

BREAKING = """
import sys, pantry.install.installed as installed
def broken(*_):
    raise ZeroDivisionError("broken on purpose")
installed.installed_models = broken
from pantry.cli._app import run
sys.exit(run(sys.argv[1:]))
"""


def break_(home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", BREAKING, "list", "--json"]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True)


def tree(words: list[str]) -> Any:
    return typer.main.get_command(app_for(words))


def test_message_names_the_log_that_holds_the_traceback(home: Path) -> None:
    done = break_(home)
    log = home / "data" / "logs" / "faults.log"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: A fault in Pantry itself: ZeroDivisionError: broken on purpose\n       Its traceback is in {log}.\n"
    )
    entry = log.read_text()
    assert "while: pantry list --json\nTraceback (most recent call last):" in entry
    assert "in broken" in entry


def test_debug_shows_the_traceback_at_once(home: Path) -> None:
    done = break_(home, PANTRY_DEBUG="1")
    assert "Traceback (most recent call last):" in done.stderr
    assert not (home / "data").exists()


def test_log_that_cannot_be_written_leaves_no_traceback_on_the_terminal(home: Path) -> None:
    home.mkdir()
    (home / "data").write_text("in the way")
    done = break_(home)
    assert "Traceback (" not in done.stderr
    assert "could not be written" in done.stderr
    assert "PANTRY_DEBUG=1" in done.stderr


def test_prompts_keys_and_names_stay_out_of_the_log() -> None:
    words = ["run", "secret-model", "a prompt", "--system=secret words", "--json", "--max-tokens", "5", "--", "--raw"]
    assert without_values(tree(words), words) == "pantry run --system --json --max-tokens"
    words = ["app", "add", "secret"]
    assert without_values(tree(words), words) == "pantry app add"


def test_fault_before_there_is_a_command_is_told_as_well() -> None:
    assert without_values(None, ["run", "secret"]) == "pantry"
