"""Running a repository: make one, publish flatpacks, take versions back, change keys.

Keys that Pantry makes for a repository are in `keys/repository/` of the config folder, named by their TUF key id.
The root key is needed for changing keys only; whoever runs a repository for others keeps it elsewhere.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pantry.catalogue.received import pack_entries
from pantry.core.files import read_bounded, write_atomically
from pantry.core.paths import Paths, make_private
from pantry.flatpack.archive.archive import Reader
from pantry.flatpack.signing.keyring import KEY_LIMIT, Ask, keys_folder, signing_keys
from pantry.flatpack.signing.keys import PrivateKey, PublicKey, load_private_key, load_public_key, new_key
from pantry.install.format_check import check_format
from pantry.repository import publish as rules
from pantry.repository.fetch import Fetcher
from pantry.repository.publish import Lifetimes, Published
from pantry.repository.root_change import RootState, create, draft_keys, rotate, sign_draft

_LARGE = 1 << 30  # bytes of a file that is not looked into before it is published


@dataclass(frozen=True)
class Made:
    """A new repository, or the draft of its root; and the files of the keys that were made for it."""

    root: RootState
    root_keys: tuple[Path, ...]
    online_key: Path


@dataclass(frozen=True)
class Rotated:
    """The next root, or its draft; and the files of keys that were made."""

    root: RootState
    made: tuple[Path, ...]


def init_repository(
    paths: Paths, folder: Path, keys: Sequence[str], ask: Ask, *, threshold: int = 1, days: int = 365
) -> Made:
    """Make a repository. `keys` are the root keys: names of the user's keys, or PEM files, private or public.

    Without any, one is made. With fewer private keys than `threshold` the root stays a draft for others to sign.
    Raises ConflictError, UsageError, UnauthorisedError.
    """
    publics, privates = _root_keys(paths, keys, ask)
    made: list[Path] = []
    if not publics:
        privates, publics = [new_key("p256")], []
        publics = [privates[0].public]
        made.append(_keep(paths, privates[0]))
    online = new_key("p256")
    online_file = _keep(paths, online)
    try:
        life = Lifetimes(root=days, targets=days)
        root = create(folder, publics, online.public, [*privates, online], threshold=threshold, life=life)
    except BaseException:
        for file in (*made, online_file):
            file.unlink(missing_ok=True)
        raise
    return Made(root, tuple(made), online_file)


def publish_files(
    paths: Paths,
    folder: Path,
    files: Sequence[Path],
    keys: Sequence[str],
    ask: Ask,
    capabilities: dict[str, float] | None = None,
    entries: Sequence[Path] | None = None,
) -> list[Published]:
    """Publish signed flatpacks; without any, sign the metadata anew so that they do not expire.

    `entries` are catalogue files whose entries take the place of those offered so far; no file at all withdraws them.
    Raises BadFileError, ConflictError, and PolicyRefusedError for a flatpack that every user's machine would refuse.
    """
    content = None if entries is None else pack_entries(entries) if entries else b""
    signers = _signers(paths, folder, keys, ask)
    for file in files:
        _check_formats(paths, file)
    return rules.publish(folder, files, signers, capabilities=capabilities, entries=content)


def _check_formats(paths: Paths, file: Path) -> None:
    """Look into the files as a pull does, but for very large weights, which would need as much room once more."""
    with Reader(file) as reader, Fetcher(paths.partial).folder_for(reader.statement.contents) as folder:
        small = [glob.escape(entry.path) for entry in reader.entries if entry.known_size <= _LARGE]
        for entry in reader.unbox(folder, only=small) if small else ():
            shown = f"{entry.path} of {file.name}"
            check_format(folder / entry.path, shown, "Nobody could pull it. Nothing was published.")


def yank_version(
    paths: Paths, folder: Path, name: str, version: str, reason: str, keys: Sequence[str], ask: Ask
) -> None:
    """Take a version back: it is passed over unless someone names it exactly. Raises NotFoundError."""
    rules.yank(folder, name, version, reason, _signers(paths, folder, keys, ask))


def rotate_keys(
    paths: Paths,
    folder: Path,
    keys: Sequence[str],
    ask: Ask,
    *,
    add_root: Sequence[str] = (),
    remove_root: Sequence[str] = (),
    threshold: int | None = None,
    days: int = 365,
) -> Rotated:
    """Replace the online key, and add or remove root keys (`remove_root`: beginnings of TUF key ids).

    With too few of the root keys, old and new, at hand the next root stays a draft for others to sign. Raises
    UnauthorisedError when none is, UsageError.
    """
    signers = _signers(paths, folder, keys, ask)
    publics, privates = _root_keys(paths, add_root, ask)
    online = new_key("p256")
    file = _keep(paths, online)
    try:
        root = rotate(
            folder,
            [*signers, *privates, online],
            online=online.public,
            add_root=publics,
            remove_root=remove_root,
            threshold=threshold,
            life=Lifetimes(root=days, targets=days),
        )
    except BaseException:
        file.unlink(missing_ok=True)
        raise
    return Rotated(root, (file,))


def sign_root(paths: Paths, place: Path, keys: Sequence[str], ask: Ask, copies: Sequence[Path] = ()) -> RootState:
    """Sign the draft of a root with `keys`, and take over what others signed in copies of it.

    `place` is the repository, where the draft becomes the root once enough have signed, or a copy of the draft. Raises
    NotFoundError, BadFileError, ConflictError, UnauthorisedError.
    """
    signers = [key for name in keys for key in signing_keys(paths, name, ask)]
    return sign_draft(place, signers, copies, _kept(paths, draft_keys(place)) if place.is_dir() else ())


def _root_keys(paths: Paths, names: Sequence[str], ask: Ask) -> tuple[list[PublicKey], list[PrivateKey]]:
    """The public keys that are meant, and the private ones at hand."""
    publics: list[PublicKey] = []
    privates: list[PrivateKey] = []
    for name in names:
        file = Path(name)
        if file.is_file() and b"PRIVATE KEY" not in (content := read_bounded(file, KEY_LIMIT)):
            publics.append(load_public_key(content, name))
        else:
            key = signing_keys(paths, name, ask)[0]
            privates.append(key)
            publics.append(key.public)
    return publics, privates


def _signers(paths: Paths, folder: Path, names: Sequence[str], ask: Ask) -> list[PrivateKey]:
    """The keys given, and those kept here that the repository knows. Raises NotFoundError for no repository."""
    found = [key for name in names for key in signing_keys(paths, name, ask)]
    return found + _kept(paths, [id for ids in rules.key_ids(folder).values() for id in ids])


def _kept(paths: Paths, ids: Sequence[str]) -> list[PrivateKey]:
    """The keys of these ids that are kept here."""
    files = [_folder(paths) / f"{id}.pem" for id in dict.fromkeys(ids)]
    return [load_private_key(read_bounded(file, KEY_LIMIT), None, file.name) for file in files if file.is_file()]


def _keep(paths: Paths, key: PrivateKey) -> Path:
    make_private(paths.config)
    make_private(keys_folder(paths))
    make_private(_folder(paths))
    file = _folder(paths) / f"{rules.tuf_key_id(key.public)}.pem"
    write_atomically(file, key.pem(None), mode=0o600)
    return file


def _folder(paths: Paths) -> Path:
    return keys_folder(paths) / "repository"
