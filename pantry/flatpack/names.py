"""The rules for paths inside a flatpack: what may be a name, and which names clash on some file system.

Names come from strangers. A path that leaves the folder, or that two systems read differently, is refused.
"""

from __future__ import annotations

import re
import sys
import unicodedata

from pantry.core.errors import BadFileError

BUNDLE_NAME = "model.sig"
"""The signature bundle beside unboxed files; never itself a file of the package."""
GIT_NAMES = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
"""What `model_signing` leaves out at the top of a folder, and therefore `pack` as well."""

MAX_PATH = 4096
"""Bytes of a whole path in UTF-8."""
MAX_PART = 255
"""Bytes of one part of a path, the limit of common file systems."""
MAX_PARTS = 255
"""Parts of a path: what removes and lists folders goes down one by one, and is to come up again."""
MAX_HELD = 256 << 20
"""Memory for the names of one package, folders too, in bytes: half a million ordinary files."""
_PER_NAME = 100
"""Bytes that remembering a name takes beside the name."""

_PLAIN = re.compile(r"[A-Za-z0-9_.,@=+()\[\]{} -]+(?:/[A-Za-z0-9_.,@=+()\[\]{} -]+)*")
_DRIVE = re.compile(r"[A-Za-z]:")
_DISGUISES = frozenset("\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
"""Direction marks, which make a name look like another one."""


def check_path(path: str) -> str:
    """`path`, if it is a safe relative path with forward slashes. Raises BadFileError that says what is wrong."""
    if wrong := _fault(path):
        raise BadFileError(f"The path {path[:120]!r} {wrong}.")
    return path


def _fault(path: str) -> str | None:
    if not path:
        return "is empty"
    if path[0] == "/" or _DRIVE.match(path):
        return "is absolute; paths are relative to the flatpack"
    parts = path.split("/")
    if ".." in parts:
        return "leaves the folder by '..'"
    if "" in parts or "." in parts:
        return "has an empty part or a '.'"
    if len(parts) > MAX_PARTS:
        return f"has more than {MAX_PARTS} parts"
    if not _PLAIN.fullmatch(path) and (wrong := _odd_character(path)):
        return wrong
    if len(path) * 4 > MAX_PART:
        if len(path.encode()) > MAX_PATH:
            return f"is longer than {MAX_PATH} bytes"
        if any(len(part.encode()) > MAX_PART for part in parts):
            return f"has a part longer than {MAX_PART} bytes"
    return None


def _odd_character(path: str) -> str | None:
    if "\\" in path:
        return "has a backslash"
    for character in path:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _DISGUISES:
            return f"has the character U+{ord(character):04X}, which hides or breaks names"
    return None


def fold(name: str) -> str:
    """The form under which file systems that ignore case or Unicode form would see `name`."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


class NameGuard:
    """Takes the paths of one package one by one and refuses a path that clashes with an earlier one."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {"": ""}
        self._held = 0

    def add(self, path: str) -> None:
        """Check `path` and remember it. Raises BadFileError for a bad, double or clashing path, or too many of them."""
        check_path(path)
        key = fold(path)
        if (other := self._files.get(key)) is not None:
            raise BadFileError(_clash(path, other))
        if key in self._folders:
            raise BadFileError(f"The path {path!r} is both a file and a folder.")
        self._add_folder(path.rpartition("/")[0])
        self._hold(path, key)
        self._files[key] = path

    def _add_folder(self, folder: str) -> None:
        """Remember a folder and those it is in, up to one that is known."""
        while (known := self._folders.get(key := fold(folder))) is None:
            if key in self._files:
                raise BadFileError(f"The path {folder!r} is both a file and a folder.")
            self._hold(folder, key)
            self._folders[key] = folder
            folder = folder.rpartition("/")[0]
        if known != folder:
            raise BadFileError(_clash(folder, known))

    def _hold(self, path: str, key: str) -> None:
        self._held += sys.getsizeof(path) + sys.getsizeof(key) + _PER_NAME
        if self._held > MAX_HELD:
            raise BadFileError(f"The names of files and folders take more than {MAX_HELD >> 20} MiB of memory.")

    def add_folder(self, path: str) -> None:
        """Check a folder that comes as a member of its own; the same folder may come again."""
        check_path(path)
        self._add_folder(path)


def _clash(path: str, other: str) -> str:
    if path == other:
        return f"The path {path!r} comes twice."
    return f"The paths {other!r} and {path!r} differ only by case or Unicode form; some file systems mix them up."


def sort_key(path: str) -> list[str]:
    """The canonical order of paths: part by part, as `model_signing` sorts them."""
    return path.split("/")
