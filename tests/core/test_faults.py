"""The log of faults: what it holds, how long it grows, and what is told where it cannot be written."""

from pathlib import Path

import pytest

from pantry import __version__
from pantry.core import faults
from pantry.core.errors import PantryError
from pantry.core.faults import record_fault
from pantry.core.paths import Paths


def broken(words: str = "no such thing") -> Exception:
    try:
        raise KeyError(words)
    except KeyError as error:
        return error


def test_traceback_is_where_the_message_says(paths: Paths) -> None:
    told = record_fault(paths.fault_log, broken(), "reading a file")
    assert (told.message, told.hint) == (
        "A fault in Pantry itself: KeyError.",
        f"Its traceback is in {paths.fault_log}.",
    )
    entry = paths.fault_log.read_text()
    assert f"pantry {__version__}, Python" in entry.splitlines()[0]
    assert "while: reading a file\nTraceback (most recent call last):" in entry
    assert "KeyError: 'no such thing'" in entry
    assert paths.fault_log.stat().st_mode & 0o777 == 0o600
    assert paths.logs.stat().st_mode & 0o777 == 0o700


def test_what_the_exception_says_is_told_to_the_owner_alone(paths: Paths) -> None:
    assert "no such thing" not in str(record_fault(paths.fault_log, broken(), "x"))
    assert "no such thing" in str(record_fault(paths.fault_log, broken(), "x", quote=True))


def test_log_that_grew_large_is_kept_once(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "MAX_LOG", 100)
    for words in ("first", "second", "third"):
        record_fault(paths.fault_log, broken(words), "x")
    kept = {file.name: file.read_text() for file in paths.logs.iterdir()}
    assert set(kept) == {"faults.log", "faults.log.old"}
    assert "third" in kept["faults.log"]
    assert "second" in kept["faults.log.old"]


def test_log_that_cannot_be_written_is_said(paths: Paths) -> None:
    paths.data.mkdir(parents=True)
    paths.logs.write_text("a file in the way")
    told = record_fault(paths.fault_log, broken(), "x")
    assert told.hint is not None
    assert told.hint.startswith(f"Its traceback could not be written to {paths.fault_log} (")
    assert "PANTRY_DEBUG=1" in told.hint


def test_link_in_place_of_the_log_is_not_followed(paths: Paths, tmp_path: Path) -> None:
    paths.logs.mkdir(parents=True)
    paths.fault_log.symlink_to(tmp_path / "elsewhere")
    assert "could not be written" in str(record_fault(paths.fault_log, broken(), "x"))
    assert not (tmp_path / "elsewhere").exists()


def test_text_that_is_not_unicode_is_logged(paths: Paths) -> None:
    told = record_fault(paths.fault_log, broken("\udcff"), "x")
    assert isinstance(told, PantryError)
    assert "\\udcff" in paths.fault_log.read_text()


def test_fault_that_quotes_too_much_is_cut(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "faults.log"
    told = record_fault(log, ValueError("x" * 10_000_000 + " the end"), "reading", quote=True)
    assert len(told.message) < 3000
    entry = log.read_text()
    assert len(entry) < 110_000
    assert "while: reading" in entry
    assert entry.endswith("x the end\n\n")


def test_fault_that_cannot_say_what_it_is_is_recorded_all_the_same(tmp_path: Path) -> None:
    class SpeechlessError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    log = tmp_path / "logs" / "faults.log"
    told = record_fault(log, SpeechlessError(), "reading", quote=True)
    assert "SpeechlessError: (what it says cannot be told: RuntimeError)" in told.message
    assert "SpeechlessError" in log.read_text()
