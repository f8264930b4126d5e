"""What whoever runs a repository does to its folder: make it, add flatpacks, take them back, change keys."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Root, TargetFile

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, did_you_mean
from pantry.core.files import staged_file, storage_errors, write_atomically
from pantry.flatpack.archive import Reader
from pantry.flatpack.keys import PrivateKey, PublicKey
from pantry.repository._roles import ONLINE, Lifetimes, Roles, Signers, metadata_file, newest_root, role_key
from pantry.repository.entry import CATALOGUE_CUSTOM, CATALOGUE_PATH, custom_of, parse_custom
from pantry.repository.locks import locked

__all__ = ["Lifetimes", "Published", "create", "key_ids", "publish", "rotate", "tuf_key_id", "yank"]


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


def create(
    folder: Path,
    root_keys: Sequence[PublicKey],
    online: PublicKey,
    signers: Sequence[PrivateKey],
    *,
    threshold: int = 1,
    life: Lifetimes | None = None,
) -> Path:
    """Make an empty repository in `folder`; the path of the root file that clients need.

    Raises ConflictError when there is one, UsageError for a threshold that the keys cannot meet, UnauthorisedError
    when too few private keys are at hand.
    """
    if not 1 <= threshold <= len(root_keys):
        raise UsageError(f"A threshold of {threshold} cannot be met by {len(root_keys)} keys.")
    with _changing(folder):
        if any((folder / "metadata").glob("*.json")):
            raise ConflictError(f"{folder} holds a repository already.", hint="Name another folder.")
        root = Root(consistent_snapshot=True)
        root.version = 0
        for key in root_keys:
            root.add_key(role_key(key), "root")
        for role in ONLINE:
            root.add_key(role_key(online), role)
        root.roles["root"].threshold = threshold
        roles, hands = Roles.fresh(folder, root), Signers.of(signers)
        with storage_errors(f"Making the repository {folder}"):
            (folder / "targets").mkdir(parents=True, exist_ok=True)
        roles.write_root(hands, None, life or Lifetimes())
        roles.write_online(hands, life or Lifetimes())
        return _copy_root(folder)


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
    with _changing(folder):
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
    with _changing(folder):
        roles = Roles.load(folder)
        path = _find(roles, name, version)
        target = roles.targets.signed.targets[path]
        target.unrecognized_fields["custom"] = {**target.unrecognized_fields["custom"], "yanked": reason}
        roles.write_online(Signers.of(signers), Lifetimes())


def rotate(
    folder: Path,
    signers: Sequence[PrivateKey],
    *,
    online: PublicKey | None = None,
    add_root: Sequence[PublicKey] = (),
    remove_root: Sequence[str] = (),
    threshold: int | None = None,
    life: Lifetimes | None = None,
) -> int:
    """Write the next root with other keys, and sign the rest with the online key; the root's version.

    `remove_root` are TUF key ids or beginnings of them. Clients follow from any root they trust. Raises
    UnauthorisedError when the keys of the old or the new root are not at hand, UsageError for a threshold that
    cannot be met.
    """
    with _changing(folder):
        roles, hands = Roles.load(folder), Signers.of(signers)
        before = copy.deepcopy(roles.root.signed)
        root = roles.root.signed
        for key in add_root:
            root.add_key(role_key(key), "root")
        for text in remove_root:
            root.revoke_key(_key_named(root, text), "root")
        if online is not None:
            for role in ONLINE:
                for keyid in list(root.roles[role].keyids):
                    root.revoke_key(keyid, role)
                root.add_key(role_key(online), role)
        root.roles["root"].threshold = threshold or root.roles["root"].threshold
        if not 1 <= root.roles["root"].threshold <= len(root.roles["root"].keyids):
            raise UsageError(
                f"A threshold of {root.roles['root'].threshold} cannot be met by {len(root.roles['root'].keyids)} keys."
            )
        roles.write_root(hands, before, life or Lifetimes())
        roles.write_online(hands, life or Lifetimes())
        _copy_root(folder)
        return int(root.version)


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


def _key_named(root: Root, text: str) -> str:
    found = [keyid for keyid in root.roles["root"].keyids if keyid.startswith(text)]
    if len(found) != 1 or not text:
        listed = ", ".join(keyid[:12] for keyid in root.roles["root"].keyids)
        raise UsageError(f"{text!r} names {len(found)} of the root keys.", hint=f"They are: {listed}.")
    return found[0]


def _copy_root(folder: Path) -> Path:
    """Put the newest root at `root.json`, for people to hand on."""
    newest = metadata_file(folder, "root", newest_root(folder))
    write_atomically(folder / "root.json", newest.read_bytes())
    return folder / "root.json"


@contextlib.contextmanager
def _changing(folder: Path) -> Iterator[None]:
    """One change at a time."""
    with storage_errors(f"Changing the repository {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".changing.lock"):
        yield
