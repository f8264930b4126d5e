"""pantry:// links on the desktop, with the desktop's own tools where they are."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pantry.core.errors import UsageError
from pantry.operations import links
from pantry.operations.links import ENTRY, SCHEME, register_links, unregister_links
from tests.processes import run_pantry

pytestmark = pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="Linux desktops only")
SPECIAL = 'a "b" $c `d` e\\f 100%'


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's data folder; the configuration lies beside it."""
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    monkeypatch.delenv("XDG_CURRENT_DESKTOP", raising=False)
    return tmp_path / "xdg_data_home"


def exec_words(entry: str) -> list[str]:
    """The words of the Exec line, read as the specification says: string escapes, then quotes, then %%.

    Inside double quotes shlex takes back the escapes of quotes and backslashes only, a shell those of $ and ` as well.
    """
    line = next(line for line in entry.splitlines() if line.startswith("Exec=")).removeprefix("Exec=")
    words = shlex.split(line.replace("\\\\", "\\"))
    return [word.replace("\\$", "$").replace("\\`", "`").replace("%%", "%") for word in words]


def test_entry_runs_this_pantry_in_this_home(data: Path, home: Path) -> None:
    assert "applications" in register_links()
    entry = (data / "applications" / ENTRY).read_text()
    assert exec_words(entry)[:4] == ["env", f"PANTRY_HOME={home}", sys.executable, "-P"]
    words = [*exec_words(entry)[:-1], "pantry://load/fox"]
    done = subprocess.run(words, input="n\n\n", capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "This link wants to load the model fox." in done.stdout
    assert "Nothing was done." in done.stdout


def test_paths_with_special_characters_stay_one_word(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PANTRY_HOME", str(tmp_path / SPECIAL))
    register_links()
    entry = (data / "applications" / ENTRY).read_text()
    assert exec_words(entry)[1] == f"PANTRY_HOME={tmp_path / SPECIAL}"
    if checker := shutil.which("desktop-file-validate"):
        done = subprocess.run([checker, data / "applications" / ENTRY], capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.skipif(shutil.which("xdg-mime") is None, reason="xdg-mime is not installed: make test-tools")
def test_desktop_knows_the_scheme_and_forgets_it(data: Path) -> None:
    def chosen() -> str:
        asked = subprocess.run(["xdg-mime", "query", "default", SCHEME], capture_output=True, text=True)
        return asked.stdout.strip()

    assert register_links().startswith("pantry:// links open with")
    assert chosen() == ENTRY
    assert unregister_links()
    assert chosen() == ""
    assert not unregister_links()


def test_other_defaults_are_kept(data: Path) -> None:
    file = Path(os.environ["XDG_CONFIG_HOME"]) / "mimeapps.list"
    file.write_text(f"[Default Applications]\ntext/html=fox.desktop\n{SCHEME}={ENTRY};other.desktop;\n")
    unregister_links()
    assert file.read_text() == f"[Default Applications]\ntext/html=fox.desktop\n{SCHEME}=other.desktop\n"


def test_without_the_tools_the_next_step_is_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert "choose Pantry when the browser asks" in register_links()


def test_other_systems_are_told_what_works(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links.sys, "platform", "darwin")
    with pytest.raises(UsageError, match="pantry open"):
        register_links()


@pytest.mark.parametrize("words", [[], ["pantry://load/fox", "--register"], ["--register", "--unregister"]])
def test_one_thing_at_a_time(words: list[str]) -> None:
    done = run_pantry("open", *words)
    assert done.returncode == 2
    assert "Give one link" in done.stderr


def test_window_stays_open_after_an_error(home: Path) -> None:
    done = run_pantry("open", "--pause", "--", "https://evil.example", stdin="\n")
    assert done.returncode == 2
    assert "is not a link of Pantry" in done.stderr
    assert "Press Enter" in done.stdout
