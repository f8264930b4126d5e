"""The signed files of a repository on the publisher's side: loaded, changed, signed, written in an order that is safe.

Roles: `root` names all keys and is signed by offline keys; `targets`, `snapshot` and `timestamp` are signed by the
online key. A reader that comes in between sees the old state or the new one: timestamp is written last.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner, SSlibKey
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp
from tuf.api.serialization.json import JSONSerializer

from pantry.core.errors import BadFileError, NotFoundError, UnauthorisedError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.locks import locked
from pantry.flatpack.signing.keys import PrivateKey, PublicKey

ONLINE = ("targets", "snapshot", "timestamp")


@dataclass(frozen=True)
class Lifetimes:
    """Days until each role's metadata expire; clients refuse them from then on."""

    root: int = 365
    targets: int = 365
    snapshot: int = 90
    timestamp: int = 90

    def expiry(self, role: str) -> datetime.datetime:
        days = getattr(self, role)
        return datetime.datetime.now(datetime.UTC).replace(microsecond=0) + datetime.timedelta(days=days)


def role_key(key: PublicKey) -> SSlibKey:
    """The key as TUF metadata name it."""
    return SSlibKey.from_crypto(key.raw)


@dataclass
class Signers:
    """The private keys at hand, by TUF key id."""

    by_id: dict[str, CryptoSigner] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[PrivateKey]) -> Signers:
        return cls({role_key(key.public).keyid: CryptoSigner(key.raw, role_key(key.public)) for key in keys})

    def can(self, roles: Iterable[str], root: Root) -> bool:
        """Whether enough of the keys of these roles are here."""
        wanted = [root.roles[role] for role in roles]
        return all(len(self.by_id.keys() & set(role.keyids)) >= role.threshold for role in wanted)

    def sign(self, metadata: Metadata[Any], role: str, root: Root) -> None:
        """Sign for `role` as the root demands. Raises UnauthorisedError when keys are missing."""
        metadata.signatures.clear()
        wanted = root.roles[role]
        have = [keyid for keyid in wanted.keyids if keyid in self.by_id]
        if len(have) < wanted.threshold:
            missing = ", ".join(keyid[:12] for keyid in wanted.keyids if keyid not in self.by_id)
            raise UnauthorisedError(
                f"The role {role!r} needs {wanted.threshold} keys, {len(have)} are here; missing: {missing}.",
                hint="Give the key files with --key KEY.pem.",
            )
        for keyid in have:
            metadata.sign(self.by_id[keyid], append=True)


@dataclass
class Roles:
    """The metadata of the repository in `folder`."""

    folder: Path
    root: Metadata[Root]
    targets: Metadata[Targets]
    snapshot: Metadata[Snapshot]
    timestamp: Metadata[Timestamp]

    @classmethod
    def load(cls, folder: Path) -> Roles:
        """The newest metadata. Raises NotFoundError when the folder is not a repository, BadFileError when damaged."""
        timestamp_file = folder / "metadata" / "timestamp.json"
        if not timestamp_file.is_file():
            raise NotFoundError(f"{folder} is not a repository.", hint=f"Make one with: pantry repo init {folder}")
        try:
            timestamp = Metadata[Timestamp].from_file(str(timestamp_file))
            number = timestamp.signed.snapshot_meta.version
            snapshot = Metadata[Snapshot].from_file(str(metadata_file(folder, "snapshot", number)))
            number = snapshot.signed.meta["targets.json"].version
            targets = Metadata[Targets].from_file(str(metadata_file(folder, "targets", number)))
            root = Metadata[Root].from_file(str(metadata_file(folder, "root", newest_root(folder))))
        except (RepositoryError, ValueError, KeyError, OSError) as error:
            raise BadFileError(f"The metadata in {folder} are damaged: {error}.") from None
        return cls(folder, root, targets, snapshot, timestamp)

    @classmethod
    def fresh(cls, folder: Path, root: Root) -> Roles:
        """A new repository without targets; nothing is written yet."""
        targets, snapshot, timestamp = Targets(), Snapshot(), Timestamp()
        for signed in (targets, snapshot, timestamp):
            signed.version = 0
        return cls(folder, Metadata(root), Metadata(targets), Metadata(snapshot), Metadata(timestamp))

    def write_root(self) -> None:
        """Write the root, which is signed."""
        self._write(self.root, f"{self.root.signed.version}.root.json")

    def write_online(self, signers: Signers, life: Lifetimes) -> None:
        """Sign and write targets, snapshot and timestamp, each with the next version."""
        root = self.root.signed
        versions: Mapping[str, int] = {name: getattr(self, name).signed.version + 1 for name in ONLINE}
        for name in ONLINE:
            signed = getattr(self, name).signed
            signed.version, signed.expires = versions[name], life.expiry(name)
        self.snapshot.signed.meta["targets.json"] = MetaFile(versions["targets"])
        self.timestamp.signed.snapshot_meta = MetaFile(versions["snapshot"])
        for name in ONLINE:
            signers.sign(getattr(self, name), name, root)
        self._write(self.targets, f"{versions['targets']}.targets.json")
        self._write(self.snapshot, f"{versions['snapshot']}.snapshot.json")
        self._write(self.timestamp, "timestamp.json")

    def _write(self, metadata: Metadata[Any], name: str) -> None:
        write_atomically(self.folder / "metadata" / name, metadata.to_bytes(JSONSerializer(compact=True)))


def metadata_file(folder: Path, role: str, version: int) -> Path:
    """Where a role's metadata of that version are."""
    return folder / "metadata" / f"{version}.{role}.json"


def newest_root(folder: Path) -> int:
    """The highest version of the root files. Raises NotFoundError when there is none."""
    with storage_errors(f"Reading {folder}"):
        numbers = [int(file.name.partition(".")[0]) for file in (folder / "metadata").glob("[0-9]*.root.json")]
    if not numbers:
        raise NotFoundError(f"{folder} has no root metadata.")
    return max(numbers)


def copy_root(folder: Path) -> Path:
    """Put the newest root at `root.json`, for people to hand on."""
    newest = metadata_file(folder, "root", newest_root(folder))
    write_atomically(folder / "root.json", newest.read_bytes())
    return folder / "root.json"


@contextlib.contextmanager
def changing(folder: Path) -> Iterator[None]:
    """One change at a time."""
    with storage_errors(f"Changing the repository {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / ".changing.lock"):
        yield
