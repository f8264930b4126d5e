"""Whom this machine trusts: which key may sign flatpacks of which names, and from when to when.

The file `trust.toml` beside `config.toml`:

    mode = "enforce"              # enforce: only trusted signers; warn: others with a warning; off: no signature needed

    [[trust]]
    name = "Ada"
    pattern = "ada/*"             # names of flatpacks, with * and ?
    keys = ["4f2a…64 hex digits"] # ids of public keys in keys/trusted/<id>.pem
    not_before = 2026-01-01       # optional, both days included
    not_after = 2027-12-31
"""

from __future__ import annotations

import contextlib
import datetime
import fnmatch
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError, model_validator

from pantry.core.errors import BadFileError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.locks import wait_for_lock
from pantry.core.paths import Paths, make_private
from pantry.core.toml import change_toml
from pantry.flatpack.manifest import explain, read_table
from pantry.flatpack.signing.keys import PublicKey, load_public_key

Mode = Literal["off", "warn", "enforce"]


def _key_id(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError(
            f"{text[:100]!r} is not a key id; expected 64 hex digits, as `pantry key list --json` shows them"
        )
    return text


KeyId = Annotated[str, AfterValidator(_key_id)]


class Rule(BaseModel):
    """One entry: these keys may sign flatpacks whose name matches the pattern, on these days (UTC)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    pattern: Annotated[str, StringConstraints(min_length=1)] = "*"
    keys: tuple[KeyId, ...]
    not_before: datetime.date | None = None
    not_after: datetime.date | None = None

    @model_validator(mode="after")
    def _days_are_in_order(self) -> Rule:
        if self.not_before and self.not_after and self.not_after < self.not_before:
            raise ValueError(f"not_after ({self.not_after}) is before not_before ({self.not_before})")
        return self

    def matches(self, name: str) -> bool:
        """Whether the rule is about flatpacks of that name."""
        return fnmatch.fnmatchcase(name, self.pattern)

    def problem(self, day: datetime.date) -> str | None:
        """Why the rule does not hold on that day, or None."""
        if self.not_before and day < self.not_before:
            return f"it is trusted from {self.not_before} on only"
        if self.not_after and day > self.not_after:
            return f"its trust ended on {self.not_after}"
        return None


class TrustFile(BaseModel):
    """The content of `trust.toml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    mode: Mode = "enforce"
    trust: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Trust:
    """The rules and the public keys they name, ready to judge. `today` is the day rules are held against."""

    mode: Mode = "enforce"
    rules: tuple[Rule, ...] = ()
    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    today: datetime.date = field(default_factory=lambda: datetime.datetime.now(datetime.UTC).date())

    @classmethod
    def only(cls, *keys: PublicKey, name: str | None = None) -> Trust:
        """Trust in exactly these keys, for every flatpack: what `--key PUB.pem` asks for."""
        known = {key.id: key for key in keys}
        return cls("enforce", (Rule(name=name, keys=tuple(known)),), known)

    def rules_for(self, key_id: str) -> list[Rule]:
        """The rules that name the key."""
        return [rule for rule in self.rules if key_id in rule.keys]

    def owner(self, key_id: str) -> str | None:
        """The name the rules give the key's holder."""
        return next((rule.name for rule in self.rules_for(key_id) if rule.name), None)


def trust_file(paths: Paths) -> Path:
    """Where the rules are."""
    return paths.config / "trust.toml"


def trusted_folder(paths: Paths) -> Path:
    """Where the public keys of the rules are."""
    return paths.config / "keys" / "trusted"


def read_trust_file(paths: Paths) -> TrustFile:
    """The rules; none yet is fine. Raises BadFileError with the field that is wrong."""
    file = trust_file(paths)
    try:
        return TrustFile.model_validate(read_table(_content(paths), str(file)))
    except ValidationError as error:
        raise BadFileError(explain(error, str(file), TrustFile)) from None


def _content(paths: Paths) -> bytes:
    """The file of the rules as it lies there, empty when there is none."""
    file = trust_file(paths)
    with storage_errors(f"Reading {file}"):
        return file.read_bytes() if file.exists() else b""


@contextlib.contextmanager
def locked_keys(paths: Paths) -> Iterator[None]:
    """Hold the folder of keys, made if need be: one process at a time changes keys and rules."""
    folder = trusted_folder(paths).parent
    make_private(paths.config)
    make_private(folder)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            wait_for_lock(descriptor)
        yield
    finally:
        os.close(descriptor)


def write_trust_file(paths: Paths, content: TrustFile) -> None:
    """Write the rules in one step, the file's comments kept; within `locked_keys` if they were read before."""
    make_private(paths.config)
    text = _content(paths).decode()
    table = content.model_dump(
        exclude_none=True, exclude_unset=bool(text), exclude=None if content.trust else {"trust"}
    )
    write_atomically(trust_file(paths), change_toml(text, table).encode(), mode=0o600)


def load_trust(paths: Paths) -> Trust:
    """The rules with their keys. Raises BadFileError when the file is wrong or a key it names is not there."""
    content = read_trust_file(paths)
    keys = {}
    for key_id in dict.fromkeys(key for rule in content.trust for key in rule.keys):
        file = trusted_folder(paths) / f"{key_id}.pem"
        if not file.is_file():
            raise BadFileError(
                f"{trust_file(paths)} names the key {key_id[:12]}…, but {file} is not there.",
                hint="Trust the key again with `pantry key trust KEY.pem`, or take it out of the rules.",
            )
        key = load_public_key(file.read_bytes(), str(file))
        if key.id != key_id:
            raise BadFileError(f"{file} holds another key, {key.id[:12]}….", hint="Someone replaced it; trust it anew.")
        keys[key_id] = key
    return Trust(content.mode, content.trust, keys)
