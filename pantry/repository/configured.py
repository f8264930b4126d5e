"""The repositories this machine uses: `repositories.toml` beside `config.toml`, and the root of trust of each.

    [[repository]]
    name = "lab"
    kind = "http"
    url = "https://models.lab.example"

The root each one began with is `repositories/NAME.root.json` beside it.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, did_you_mean
from pantry.core.files import read_bounded, storage_errors, write_atomically
from pantry.core.paths import Paths, make_private
from pantry.core.toml import change_toml
from pantry.flatpack.manifest import explain, read_table
from pantry.repository.address import Address
from pantry.repository.source import KINDS, Place

_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
MAX_ROOT = 512_000  # bytes


class Configured(BaseModel):
    """One repository."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=f"^{_NAME}$")]
    kind: str
    url: str


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    repository: tuple[Configured, ...] = ()


@dataclass(frozen=True)
class Repositories:
    """The repositories of a home, in the order they are asked."""

    paths: Paths

    @property
    def file(self) -> Path:
        return self.paths.config / "repositories.toml"

    def list(self) -> tuple[Configured, ...]:
        """All of them. Raises BadFileError with the field that is wrong."""
        try:
            return _File.model_validate(read_table(self._content(), str(self.file))).repository
        except ValidationError as error:
            raise BadFileError(explain(error, str(self.file), _File)) from None

    def get(self, name: str) -> Configured:
        """The repository of that name. Raises NotFoundError with the nearest name."""
        for each in self.list():
            if each.name == name:
                return each
        known = [each.name for each in self.list()]
        listed = f"Known: {', '.join(known)}." if known else "None is configured: pantry repo add NAME URL --root FILE"
        raise NotFoundError(f"There is no repository {name!r}.", hint=did_you_mean(name, known, listed))

    def add(self, name: str, url: str, root: bytes) -> Configured:
        """Add a repository with its root of trust; the kind follows from the address.

        Raises UsageError for a bad name or address, ConflictError when the name is taken.
        """
        if not re.fullmatch(_NAME, name):
            raise UsageError(f"{name[:80]!r} is not a name for a repository.", hint="Use a-z, 0-9, '.', '_' and '-'.")
        if any(each.name == name for each in self.list()):
            raise ConflictError(f"There is a repository {name!r} already.", hint=f"First: pantry repo remove {name}")
        made = _configured(name, url)
        make_private(self.paths.config)
        write_atomically(self._root_file(name), root, mode=0o600)
        self._write((*self.list(), made))
        return made

    def remove(self, name: str) -> None:
        """Forget a repository and its state; what was pulled from it stays. Raises NotFoundError."""
        self.get(name)
        self._write(tuple(each for each in self.list() if each.name != name))
        with storage_errors(f"Removing the repository {name}"):
            self._root_file(name).unlink(missing_ok=True)
            shutil.rmtree(self.state(name), ignore_errors=True)

    def place(self, repository: Configured) -> Place:
        """Where it is, its root and its state. Raises BadFileError when the root is gone."""
        file = self._root_file(repository.name)
        if not file.is_file():
            raise BadFileError(
                f"The root of the repository {repository.name!r} is missing: {file}.",
                hint=f"Add it anew: pantry repo remove {repository.name}, then pantry repo add ... --root ROOT.json",
            )
        with storage_errors(f"Reading {file}"):
            return Place(repository.name, repository.url, file.read_bytes(), self.state(repository.name))

    def state(self, name: str) -> Path:
        """The folder of what was verified of a repository."""
        return self.paths.data / "repositories" / name

    def _root_file(self, name: str) -> Path:
        return self.paths.config / "repositories" / f"{name}.root.json"

    def _write(self, entries: tuple[Configured, ...]) -> None:
        text = self._content().decode()
        table = {"repository": [each.model_dump() for each in entries]} if entries else {}
        write_atomically(self.file, change_toml(text, table).encode(), mode=0o600)

    def _content(self) -> bytes:
        """The file as it lies there, empty when there is none."""
        with storage_errors(f"Reading {self.file}"):
            return self.file.read_bytes() if self.file.exists() else b""


def _configured(name: str, url: str) -> Configured:
    scheme, colon, _ = url.partition("://")
    if not colon:
        return Configured(name=name, kind="directory", url=str(Path(url).expanduser().absolute()))
    if scheme in ("http", "https"):
        return Configured(name=name, kind="http", url=str(Address.parse(url.rstrip("/") + "/")))
    KINDS.get(scheme)
    return Configured(name=name, kind=scheme, url=url)


def read_root(file: Path) -> bytes:
    """The content of a root file the user names. Raises NotFoundError, BadFileError or StorageError."""
    if not file.is_file():
        hint = "It is the root.json of whoever runs the repository."
        if file.parts[:1] in (("https:",), ("http:",)):
            hint = "It must be a file of this machine: get it first, by a way you trust."
        raise NotFoundError(f"There is no file {file}.", hint=hint)
    return read_bounded(file, MAX_ROOT)
