"""What whoever runs a repository does to what it offers: add flatpacks, take them back, renew the signatures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import TargetFile

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, did_you_mean
from pantry.core.files import staged_file, storage_errors, write_atomically
from pantry.flatpack.archive.archive import Reader
from pantry.flatpack.signing.keys import PrivateKey, PublicKey
from pantry.repository._roles import Lifetimes, Roles, Signers, changing, role_key
from pantry.repository.entry import CATALOGUE_CUSTOM, CATALOGUE_PATH, custom_of, parse_custom

__all__ = ["Lifetimes", "Published", "key_ids", "publish", "tuf_key_id", "yank"]


@dataclass(frozen=True)
class Published:
    """One flatpack that a repository offers now."""

    name: str
    version: str
    path: str
    size: int


def tuf_key_id(key: PublicKey) -> str:
    """The id under which TUF metadata know the key."""
    return str(role_key(key).keyid)


def publish(
    folder: Path,
    files: Sequence[Path],
    signers: Sequence[PrivateKey],
    *,
    capabilities: dict[str, float] | None = None,
    entries: bytes | None = None,
    life: Lifetimes | None = None,
) -> list[Published]:
    """Check flatpacks, copy them into the repository and sign its metadata anew; without files only the latter.

    `entries` is a document of catalogue entries that takes the place of the one before; empty: none is offered now.

    Raises BadFileError for a flatpack that is damaged or not signed, and ConflictError when that version was
    published with other content. Nothing is published then.
    """
    with changing(folder):
        roles = Roles.load(folder)
        made = [_add(roles, file, capabilities or {}) for file in files]
        if entries is not None:
            _offer_entries(roles, entries)
        roles.write_online(Signers.of(signers), life or Lifetimes())
        return made


def yank(folder: Path, name: str, version: str, reason: str, signers: Sequence[PrivateKey]) -> None:
    """Mark a version as not to be used any more; its file stays for those who named it exactly.

    Raises NotFoundError, with the nearest name.
    """
    with changing(folder):
        roles = Roles.load(folder)
        path = _find(roles, name, version)
        target = roles.targets.signed.targets[path]
        target.unrecognized_fields["custom"] = {**target.unrecognized_fields["custom"], "yanked": reason}
        roles.write_online(Signers.of(signers), Lifetimes())


def key_ids(folder: Path) -> dict[str, list[str]]:
    """The TUF key ids of each role."""
    root = Roles.load(folder).root.signed
    return {name: list(role.keyids) for name, role in root.roles.items()}


def _add(roles: Roles, file: Path, capabilities: dict[str, float]) -> Published:
    with Reader(file) as reader:
        if not reader.bundle.signatures:
            raise BadFileError(f"{file} is not signed.", hint=f"Sign it first: pantry sign {file}")
        manifest = reader.manifest
        reader.check_contents()
        size = sum(entry.known_size for entry in reader.entries)
    short = manifest.name.rpartition("/")[2]
    path = f"{manifest.name}/{short}-{manifest.version}.fpk"
    with storage_errors(f"Reading {file}"):
        target = TargetFile.from_file(path, str(file), ["sha256"])
    digest = target.hashes["sha256"]
    known = roles.targets.signed.targets.get(path)
    if known is not None and known.hashes["sha256"] != digest:
        raise ConflictError(
            f"{manifest.name} {manifest.version} was published with other content.",
            hint="A version never changes: give the new one another version, and yank the old one.",
        )
    target.unrecognized_fields["custom"] = custom_of(manifest, size, capabilities)
    folder, _, name = path.rpartition("/")
    _copy_file(file, roles.folder / "targets" / folder / f"{digest}.{name}")
    if known is None:
        roles.targets.signed.targets[path] = target
    return Published(manifest.name, manifest.version, path, target.length)


def _offer_entries(roles: Roles, content: bytes) -> None:
    roles.targets.signed.targets.pop(CATALOGUE_PATH, None)
    if not content:
        return
    target = TargetFile.from_data(CATALOGUE_PATH, content, ["sha256"])
    target.unrecognized_fields["custom"] = dict(CATALOGUE_CUSTOM)
    folder, _, name = CATALOGUE_PATH.rpartition("/")
    write_atomically(roles.folder / "targets" / folder / f"{target.hashes['sha256']}.{name}", content)
    roles.targets.signed.targets[CATALOGUE_PATH] = target


def _copy_file(source: Path, target: Path) -> None:
    if target.exists():
        return
    with storage_errors(f"Copying {source}"), source.open("rb") as file, staged_file(target) as out:
        while data := file.read(1 << 20):
            out.write(data)


def _find(roles: Roles, name: str, version: str) -> str:
    known: list[Any] = []
    for path, target in roles.targets.signed.targets.items():
        facts = parse_custom(target.unrecognized_fields.get("custom"))
        if facts is None:
            continue
        if (facts.name, facts.version) == (name, version):
            return path
        known.append(f"{facts.name} {facts.version}")
    raise NotFoundError(f"The repository has no {name} {version}.", hint=did_you_mean(f"{name} {version}", known))
