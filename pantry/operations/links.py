"""Deep links: `pantry://pull/NAME?repo=URL`, `pantry://load/NAME`, `pantry://run/NAME?prompt=TEXT`.

A link comes from a web page or a letter, so it only ever says what it would do; doing it needs the user's yes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from pantry.core.errors import NotFoundError, PantryError, UsageError, did_you_mean
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths, absolute_home
from pantry.core.refs import ModelName
from pantry.repository.configured import Repositories

Action = Literal["pull", "load", "run"]
_TAKES: dict[Action, tuple[str, ...]] = {"pull": ("repo",), "load": (), "run": ("prompt",)}
MAX_LINK = 4000  # characters
MAX_PROMPT = 2000  # characters


@dataclass(frozen=True)
class Link:
    """What a link asks for."""

    action: Action
    model: ModelName
    repo: str | None = None
    prompt: str | None = None

    def describe(self) -> str:
        """What would happen, in words for the user."""
        where = f" from the repository {self.repo}" if self.repo else ""
        said = f" and ask it: {self.prompt}" if self.prompt else ""
        verbs = {"pull": "download, verify and install", "load": "load", "run": "load"}
        return f"{verbs[self.action]} the model {self.model}{where}{said}"


def parse_link(text: str) -> Link:
    """Parse a link. Raises UsageError for another scheme, action, parameter, or anything that does not fit."""
    if len(text) > MAX_LINK or not text.isprintable():
        raise UsageError("This link is too long or has characters that no link has.")
    try:
        parts = urlsplit(text.strip())
        given = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
    except ValueError:
        raise UsageError(f"{text[:120]!r} is not a link.") from None
    if parts.scheme != "pantry" or parts.fragment:
        raise UsageError(f"{text[:120]!r} is not a link of Pantry.", hint="It looks like pantry://pull/qwen3-0.6b.")
    action = next((each for each in _TAKES if each == parts.netloc), None)
    if action is None:
        hint = did_you_mean(parts.netloc, _TAKES, f"Known: {', '.join(_TAKES)}.")
        raise UsageError(f"A link cannot ask to {parts.netloc[:40]!r}.", hint=hint)
    parameters = dict(given)
    unknown = [name for name in parameters if name not in _TAKES[action]]
    if unknown or len(parameters) != len(given):
        takes = ", ".join(_TAKES[action]) or "none"
        raise UsageError(f"The parameters of this link do not fit: {action} takes {takes}, once.")
    prompt = parameters.get("prompt")
    if prompt is not None and (len(prompt) > MAX_PROMPT or not prompt.replace("\n", " ").isprintable()):
        raise UsageError(f"The prompt of this link is over {MAX_PROMPT} characters or not printable.")
    return Link(action, ModelName.parse(unquote(parts.path.strip("/"))), _repo(parameters.get("repo")), prompt)


def repository_of(paths: Paths, link: Link) -> str | None:
    """The configured name of the repository a link names; None when it names none.

    Raises NotFoundError for one that is not configured: a link never adds a root of trust.
    """
    if link.repo is None:
        return None
    for each in Repositories(paths).list():
        if each.url.rstrip("/") == link.repo.rstrip("/") or each.name == link.repo:
            return each.name
    raise NotFoundError(
        f"The repository {link.repo} is not one of yours.",
        hint=f"If you trust it: pantry repo add NAME {link.repo} --root FILE",
    )


def _repo(text: str | None) -> str | None:
    if text is None:
        return None
    try:
        parts = urlsplit(text)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    except ValueError:
        raise UsageError(f"{text[:120]!r} is not an address of a repository.") from None
    if not parts.hostname or parts.username or not (parts.scheme == "https" or (parts.scheme == "http" and local)):
        raise UsageError(f"{text[:120]!r} is not an address of a repository.", hint="It begins with https://.")
    return text


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
