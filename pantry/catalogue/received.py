"""Catalogue entries that repositories send: packed by who publishes them, taken in and dropped by who uses them.

On the way they are one JSON document: an array of entries for each kind, as in a catalogue file, and a head
`"catalogue": {"format": 1}`. Here it lies as `catalogue/REPOSITORY/vN.json` in the data folder, until a newer version
or the end of the repository takes it away.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pantry.catalogue.files import BUILTIN, Loaded, catalogue_files, read_content, read_file
from pantry.catalogue.lookup import repository_versions
from pantry.catalogue.merge import merge
from pantry.core.errors import BadFileError, ConflictError, UsageError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.paths import Paths

FORMAT = 1
"""Of the document; raised when its shape changes."""
MAX_RECEIVED = 128_000_000
"""Bytes of a document; 100,000 entries take about 100 MB."""
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


class _Head(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1]


class _Kept(_Head):
    """The head of a document that was taken in."""

    repository: str
    version: int
    signed_by: str


@dataclass(frozen=True)
class Received:
    """The entries of one repository that are here. `changed`: the call that returned this brought them."""

    repository: str
    version: int
    signed_by: str
    count: int
    changed: bool = False


def pack_entries(files: Sequence[Path]) -> bytes:
    """The document that a repository sends, from catalogue files (TOML or JSON); the same files give the same bytes.

    Raises BadFileError with file, line and field for what is wrong, for an entry given twice, for bases that run in a
    circle, and for more than MAX_RECEIVED bytes.
    """
    loaded = [each for file in files for each in read_file(file, "published")]
    if not loaded:
        raise BadFileError(
            "There is no catalogue entry in these files.", hint="Entries begin with [[model]] or the like."
        )
    _check(loaded)
    kinds: dict[str, list[dict[str, Any]]] = {}
    for each in sorted(loaded, key=lambda one: (one.kind, one.entry.id)):
        row = each.entry.model_dump(mode="json", exclude_defaults=True, by_alias=True)
        kinds.setdefault(each.kind, []).append(row)
    content = json.dumps({"catalogue": {"format": FORMAT}} | kinds, ensure_ascii=False).encode()
    _check_size(content)
    return content


def install_entries(paths: Paths, repository: str, version: int, content: bytes, signed_by: str) -> Received:
    """Take in the entries of a repository; they replace those of its older version.

    For whoever has verified `content` (a document of `pack_entries`): `repository` is the configured name, `version` a
    number that only grows, like the version of the TUF metadata that names the target, `signed_by` the key or role
    that vouches for it. Call it at every refresh: the same content again costs nothing and changes nothing, whatever
    its version. Call `remove_entries` when the repository no longer offers entries, and when it is removed.

    What such entries may say of shipped ones is the rule of `pantry.catalogue.merge`: they add facts and tighten
    rights, and never loosen them.

    Raises ConflictError for other content of the same or an older version (a rollback), BadFileError for a document
    that is wrong, and then the old entries stay; UsageError for a name that is none or a missing signer.
    """
    if not signed_by.strip() or version < 1:
        raise UsageError("Entries of a repository need a version from 1 up and the name of who signed them.")
    folder = _folder(paths, repository)
    _check_size(content)
    name = f"the entries of {repository}, version {version}"
    loaded = list(read_content(content, f"{name}.json", f"repository {repository} v{version}"))
    document = json.loads(content)
    _check_head(document, name)
    _check(loaded)
    present = repository_versions(folder)
    if present:
        newest = max(present)
        kept = _kept(present[newest])
        if kept is not None and kept[1] == _without_head(document):
            return Received(repository, newest, kept[0].signed_by, len(loaded))
        if version <= newest:
            raise ConflictError(
                f"The repository {repository} offers version {version} of its entries; version {newest} is here.",
                hint="An older version would undo corrections. Ask who runs the repository.",
            )
    head = {"format": FORMAT, "repository": repository, "version": version, "signed_by": signed_by}
    write_atomically(folder / f"v{version}.json", json.dumps(document | {"catalogue": head}).encode())
    for old in present.values():
        old.unlink(missing_ok=True)
    return Received(repository, version, signed_by, len(loaded), changed=True)


def remove_entries(paths: Paths, repository: str) -> bool:
    """Drop the entries of a repository; whether there were any. Raises UsageError for a name that is none."""
    folder = _folder(paths, repository)
    found = bool(repository_versions(folder))
    with storage_errors(f"Removing the entries of {repository}"):
        if folder.is_dir():
            shutil.rmtree(folder)
    return found


def received_entries(paths: Paths) -> list[Received]:
    """The entries that are here, by repository; a document that was damaged since is left out."""
    found = []
    for folder in sorted((paths.data / "catalogue").glob("*/")):
        versions = repository_versions(folder)
        kept = _kept(versions[max(versions)]) if versions else None
        if kept is not None:
            head, rows = kept
            count = sum(len(each) for each in rows.values())
            found.append(Received(folder.name, head.version, head.signed_by, count))
    return found


def _folder(paths: Paths, repository: str) -> Path:
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"{repository[:80]!r} is not the name of a repository.")
    return paths.data / "catalogue" / repository


def _check(loaded: Sequence[Loaded]) -> None:
    """Raises BadFileError for entries given twice, licences that do not parse, and bases that run in a circle.

    Only against the licences that are shipped: what the entries are beside all others can change with those.
    """
    shipped = [each for file in catalogue_files(BUILTIN / "licences") for each in read_file(file, "builtin")]
    merged = merge([*shipped, *loaded])
    if merged.problems:
        raise BadFileError(merged.problems[0])


def _check_size(content: bytes) -> None:
    if len(content) > MAX_RECEIVED:
        raise BadFileError(f"Catalogue entries of {len(content)} bytes are too many; the limit is {MAX_RECEIVED}.")


def _check_head(document: dict[str, Any], name: str) -> None:
    try:
        _Head.model_validate(document.get("catalogue"))
    except ValidationError:
        raise BadFileError(
            f"{name} must say catalogue.format = {FORMAT}, found {str(document.get('catalogue'))[:60]}.",
            hint="A newer format needs a newer Pantry; other files become entries with: pantry repo publish.",
        ) from None


def _kept(file: Path) -> tuple[_Kept, dict[str, list[Any]]] | None:
    """The head and the entries of a document that lies here; None when it is damaged."""
    try:
        with storage_errors(f"Reading {file.name}"):
            document = json.loads(file.read_bytes())
        return _Kept.model_validate(document["catalogue"]), _without_head(document)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _without_head(document: dict[str, Any]) -> dict[str, list[Any]]:
    return {kind: rows for kind, rows in document.items() if kind != "catalogue"}
