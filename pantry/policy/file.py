"""The policy file as it lies there: its text, and what tells that it was changed."""

from __future__ import annotations

import contextlib
import math
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.schema import Family
from pantry.core.errors import UsageError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths
from pantry.core.toml import change_toml
from pantry.evaluation.capabilities import KNOWN_CAPABILITIES
from pantry.policy.rules import Known, Policy, parse_policy

FILE = "policy.toml"
MAX_POLICY = 1_000_000  # bytes
_NEW = "# The rules of this machine for models. See docs/licences.md.\n\n"


def policy_text(paths: Paths) -> str:
    """The content of the policy file, empty when there is none.

    Only a file that is not there at all means no policy: one that cannot be read must not open what it would close.
    Raises UsageError or StorageError that says what is there instead.
    """
    file = paths.config / FILE
    with storage_errors(f"Reading the policy {file}"):
        for place in (paths.config, file):
            if not _is_there(place):
                return ""
            if not place.exists():
                raise UsageError(
                    f"The policy {file} cannot be read: {place} is a link to nothing.",
                    hint="Correct the link, or remove it to be without a policy.",
                )
        if not file.is_file():
            raise UsageError(f"The policy {file} is not a file.", hint="Move away what is there.")
        content = file.read_bytes() if file.stat().st_size <= MAX_POLICY else None
    if content is None:
        raise UsageError(f"The policy {file} is larger than {MAX_POLICY} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{file} is not valid TOML: {error}.") from None


def policy_mark(paths: Paths) -> tuple[int, ...]:
    """What changes whenever the policy file is written, replaced or removed; the file is not read."""
    file, mark = paths.config / FILE, []
    for look in (os.lstat, os.stat):  # of a link, and of what it leads to
        with contextlib.suppress(OSError):
            found = look(file)
            mark += [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]
    return tuple(mark)


def _is_there(place: Path) -> bool:
    """Whether anything is at `place`, also a link to nothing; raises OSError when that cannot be told."""
    try:
        place.lstat()
    except FileNotFoundError:
        return False
    return True


def load_policy(paths: Paths, catalogue: Catalogue) -> Policy:
    """The policy of this home, or the default one when there is no file. Raises UsageError for a wrong file."""
    return _checked(_read(paths), paths, catalogue)


def set_rules(paths: Paths, catalogue: Catalogue, changes: Mapping[str, str]) -> Policy:
    """Change rules and write the file; an empty value takes a rule back to its default.

    Lists are written with commas, evidence like `minimum_evidence.coding` = `2`. The file's comments and order stay.
    Raises UsageError when a rule does not exist or the result contradicts itself; the file then stays as it was.
    """
    document = _read(paths)
    for name, value in changes.items():
        _change(document, name.strip().replace("-", "_"), value.strip())
    policy = _checked(document, paths, catalogue)
    write_atomically(paths.config / FILE, change_toml(policy_text(paths) or _NEW, document).encode())
    return policy


def _read(paths: Paths) -> dict[str, Any]:
    try:
        return tomllib.loads(policy_text(paths))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{paths.config / FILE} is not valid TOML: {error}.") from None


def _checked(document: dict[str, Any], paths: Paths, catalogue: Catalogue) -> Policy:
    known = Known(
        licences=catalogue.licence_names,
        families=[entry.id for _, entry in catalogue.entries("family") if isinstance(entry, Family)],
        capabilities=catalogue.capabilities | KNOWN_CAPABILITIES,
    )
    return parse_policy(document, str(paths.config / FILE), known)


def _change(document: dict[str, Any], name: str, value: str) -> None:
    """Put one rule into the document in the type its field has; unknown rules are found when the whole is checked."""
    head, dot, capability = name.partition(".")
    if head == "minimum_evidence":
        if not dot or not capability.strip():
            raise UsageError(
                "minimum_evidence needs the capability it is about.", hint="Write minimum_evidence.coding=2."
            )
        scores = dict(document.get(head, {}))
        scores.pop(capability, None)
        if value:
            scores[capability] = _number(name, value)
        document[head] = scores
        if not scores:
            del document[head]
        return
    if not value:
        document.pop(name, None)
        return
    default = Policy.model_fields[name].default if name in Policy.model_fields else ""
    if name in ("users", "revenue"):
        document[name] = _whole(name, value)
    elif isinstance(default, tuple):
        document[name] = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(default, bool):
        if value.lower() not in ("true", "false", "yes", "no"):
            raise UsageError(f"{name} is true or false, got {value!r}.")
        document[name] = value.lower() in ("true", "yes")
    else:
        document[name] = value


def _number(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name} is a number, got {value[:40]!r}.")
    return number


def _whole(name: str, value: str) -> int:
    number = _number(name, value)
    if not number.is_integer():
        raise UsageError(f"{name} is a whole number, got {value[:40]!r}.")
    return int(number)
