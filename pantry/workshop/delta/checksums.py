"""Checksum lists as `md5sum` and `sha256sum` print them, and lists of addresses to fetch."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pantry.core.errors import BadFileError, NotFoundError, VerificationError
from pantry.core.files import read_bounded
from pantry.workshop.delta.xor_files import Written

MAX_LIST = 10_000_000  # bytes
_LINE = re.compile(r"(?P<sum>[0-9a-fA-F]{32}|[0-9a-fA-F]{64})\s+\*?(?P<path>\S.*)")


@dataclass
class ChecksumList:
    """File names (without folders) and the checksums that files of that name may have; a mere name has none."""

    names: dict[str, set[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> ChecksumList:
        """Read a list: lines `checksum  path`, addresses, or names; empty lines and those after # or $ are left out.

        Raises BadFileError for a line of no known form, with its number, and NotFoundError.
        """
        if not file.is_file():
            raise NotFoundError(f"There is no list {file}.")
        content = read_bounded(file, MAX_LIST)
        found = cls()
        try:
            lines = content.decode().splitlines()
        except UnicodeDecodeError as error:
            raise BadFileError(f"{file} is not UTF-8 text at byte {error.start}.") from None
        for number, line in enumerate(lines, 1):
            found._add(line.strip(), f"{file}, line {number}")
        return found

    def _add(self, line: str, where: str) -> None:
        if not line or line[0] in "#$`":
            return
        match = _LINE.fullmatch(line)
        path = match["path"] if match else line
        if "://" in path:
            path = unquote(urlsplit(path).path)
        name = path.replace("\\", "/").rpartition("/")[2]
        if not name or (not match and any(character.isspace() for character in line)):
            raise BadFileError(f"{where} is neither 'checksum  name' nor an address: {line[:80]!r}.")
        self.names.setdefault(name, set()).update({match["sum"].lower()} if match else ())

    @property
    def needs_md5(self) -> bool:
        """Whether any sum of the list is an MD5."""
        return any(len(wanted) == 32 for sums in self.names.values() for wanted in sums)

    def check(self, written: Written) -> None:
        """Raises VerificationError when the list has checksums for this name and one differs."""
        for wanted in self.names.get(written.path.name, ()):
            have = written.md5 if len(wanted) == 32 else written.sha256
            if have != wanted:
                kind = "md5" if len(wanted) == 32 else "sha256"
                raise VerificationError(
                    f"{written.path.name} has {kind} {have}, the list says {wanted}.", hint="Fetch the file again."
                )

    def missing(self, there: set[str]) -> list[str]:
        """Listed `.enc` files that are not among the names `there`."""
        return sorted(name for name in self.names if name.endswith(".enc") and name not in there)
