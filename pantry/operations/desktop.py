"""pantry:// links on the desktop: which program a browser hands them to.

Linux: a desktop entry in the user's own folder (Desktop Entry Specification) that names `pantry open`, made the
default for the scheme with xdg-mime. It runs in a terminal, since the link's wish is shown and asked about there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from pantry.core.errors import PantryError, UsageError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import absolute_home

ENTRY = "pantry-open.desktop"
SCHEME = "x-scheme-handler/pantry"
TIMEOUT = 30.0  # seconds a desktop tool may take


def register_links() -> str:
    """Have the desktop open pantry:// links with this Pantry; a sentence on what was done.

    Raises UsageError on other systems than Linux and the BSDs, StorageError when the entry cannot be written.
    """
    _check_system()
    file = _applications() / ENTRY
    with storage_errors(f"Writing {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, _entry().encode(), mode=0o644)
    _refresh()
    if not _run("xdg-mime", "default", ENTRY, SCHEME):
        return f"Wrote {file}. xdg-mime did not answer: choose Pantry when the browser asks what opens the link."
    return f"pantry:// links open with this Pantry now ({file})."


def unregister_links() -> bool:
    """Take that back; False when there was nothing."""
    _check_system()
    file = _applications() / ENTRY
    found = file.exists()
    with storage_errors(f"Removing {file}"):
        file.unlink(missing_ok=True)
    _forget_default(_folder("XDG_CONFIG_HOME", ".config") / "mimeapps.list")
    _refresh()
    return found


def _check_system() -> None:
    if sys.platform in ("darwin", "win32"):
        raise UsageError(
            "Links can be registered on Linux desktops only, so far.",
            hint='Open a link by hand: pantry open "pantry://..."',
        )


def _entry() -> str:
    words = [sys.executable, "-P", "-m", "pantry", "open", "--pause", "--"]
    if home := os.environ.get("PANTRY_HOME"):
        words = ["env", f"PANTRY_HOME={absolute_home(home)}", *words]
    return (
        "[Desktop Entry]\nType=Application\nVersion=1.0\nName=Pantry\n"
        "Comment=Shows what a pantry:// link would do, and asks\n"
        f"Exec={' '.join(_quoted(word) for word in words)} %u\n"
        f"Terminal=true\nNoDisplay=true\nMimeType={SCHEME};\n"
    )


def _quoted(word: str) -> str:
    """A word of an Exec line: quoted where needed, with both levels of escapes of the specification."""
    if not word.isprintable():
        raise PantryError(f"The path {word!r} cannot be written into a desktop entry.")
    escaped = "".join(f"\\{char}" if char in '"`$\\' else char for char in word).replace("%", "%%")
    plain = word.replace("/", "").replace("-", "").replace(".", "").replace("_", "").isalnum()
    return word if plain else f'"{escaped}"'.replace("\\", "\\\\")


def _forget_default(file: Path) -> None:
    """Take our entry out of the user's list of default programs."""
    try:
        lines = file.read_text().splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return
    kept = []
    for line in lines:
        key, _, value = line.partition("=")
        if key.strip() == SCHEME:
            others = [each for each in value.strip().split(";") if each and each != ENTRY]
            line = f"{key}={';'.join(others)}\n" if others else ""
        kept.append(line)
    if kept != lines:
        with storage_errors(f"Writing {file}"):
            write_atomically(file, "".join(kept).encode(), mode=0o644)


def _applications() -> Path:
    return _folder("XDG_DATA_HOME", ".local/share") / "applications"


def _folder(variable: str, otherwise: str) -> Path:
    """A folder of the XDG Base Directory Specification: relative values are to be ignored."""
    given = Path(os.environ.get(variable) or "")
    return given if given.is_absolute() else Path.home() / otherwise


def _refresh() -> None:
    if _applications().exists():
        _run("update-desktop-database", str(_applications()))


def _run(program: str, *arguments: str) -> bool:
    """Run a tool of the desktop; False when it is not there or fails."""
    found = shutil.which(program)
    if found is None:
        return False
    try:
        done = subprocess.run([found, *arguments], capture_output=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
