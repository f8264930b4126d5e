"""Who may sign for a repository: its first root, and every change of keys, also where their holders are far apart.

Where the keys at hand are too few, the new root becomes a draft, `root.draft.json` in the folder: TUF root metadata and
the signatures so far. Each holder signs that file, or a copy of it; when a threshold of the old root's keys and of its
own have signed, it becomes the root. Until then the repository stays as it is.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from securesystemslib.exceptions import UnverifiedSignatureError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UnauthorisedError, UsageError
from pantry.core.files import read_bounded, storage_errors, write_atomically
from pantry.flatpack.signing.keys import PrivateKey, PublicKey
from pantry.repository._roles import ONLINE, Lifetimes, Roles, Signers, changing, copy_root, newest_root, role_key

DRAFT = "root.draft.json"
MAX_DRAFT = 512_000  # bytes


@dataclass(frozen=True)
class RootState:
    """A root that was made or is being made. `file` is root.json, or the draft while `missing` more must sign."""

    file: Path
    version: int
    threshold: int
    expires: str
    signed: tuple[str, ...]
    unsigned: tuple[str, ...]
    missing: int = 0


def create(
    folder: Path,
    root_keys: Sequence[PublicKey],
    online: PublicKey,
    signers: Sequence[PrivateKey],
    *,
    threshold: int = 1,
    life: Lifetimes | None = None,
) -> RootState:
    """Make an empty repository in `folder`, or the draft of its root where too few root keys are at hand.

    Raises ConflictError when there is one, UsageError for a threshold that the keys cannot meet, UnauthorisedError
    without any private root key.
    """
    if not 1 <= threshold <= len(root_keys):
        raise UsageError(f"A threshold of {threshold} cannot be met by {len(root_keys)} keys.")
    with changing(folder):
        if any((folder / "metadata").glob("*.json")):
            raise ConflictError(f"{folder} holds a repository already.", hint="Name another folder.")
        root = Root(consistent_snapshot=True)
        root.version = 0
        for key in root_keys:
            root.add_key(role_key(key), "root")
        for role in ONLINE:
            root.add_key(role_key(online), role)
        root.roles["root"].threshold = threshold
        with storage_errors(f"Making the repository {folder}"):
            (folder / "targets").mkdir(parents=True, exist_ok=True)
        return _next_root(folder, Metadata(root), None, Signers.of(signers), life or Lifetimes())


def rotate(
    folder: Path,
    signers: Sequence[PrivateKey],
    *,
    online: PublicKey | None = None,
    add_root: Sequence[PublicKey] = (),
    remove_root: Sequence[str] = (),
    threshold: int | None = None,
    life: Lifetimes | None = None,
) -> RootState:
    """Write the next root with other keys and sign the rest with the online key, or make the draft of that root.

    `remove_root` are TUF key ids or beginnings of them. Clients follow from any root they trust. Raises
    UnauthorisedError when no root key is at hand, UsageError for a threshold that cannot be met.
    """
    with changing(folder):
        roles = Roles.load(folder)
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
        count, wanted = len(root.roles["root"].keyids), root.roles["root"].threshold
        if not 1 <= wanted <= count:
            raise UsageError(f"A threshold of {wanted} cannot be met by {count} keys.")
        return _next_root(folder, roles.root, before, Signers.of(signers), life or Lifetimes())


def sign_draft(
    place: Path,
    signers: Sequence[PrivateKey],
    copies: Sequence[Path] = (),
    kept: Sequence[PrivateKey] = (),
) -> RootState:
    """Add signatures to a draft: by `signers`, and those in `copies` that others signed.

    `place` is the draft, or the folder of the repository; there it becomes the root once enough have signed and the
    online key is among the `kept` keys. Raises NotFoundError without a draft, BadFileError for one that was changed
    after somebody signed it, ConflictError when the repository has moved on, UnauthorisedError for signers that the
    root does not name.
    """
    if not place.is_dir():
        draft = read_draft(place)
        _add(draft, None, Signers.of(signers), copies)
        _write_draft(draft, place)
        return _state(draft, None, place)
    with changing(place):
        file, before = place / DRAFT, _root_before(place)
        draft = read_draft(file)
        if draft.signed.version != (before.version if before else 0) + 1:
            raise ConflictError(
                f"The draft is of root version {draft.signed.version}, and the repository has version "
                f"{before.version if before else 0}.",
                hint=f"It was overtaken: delete {file}, and begin again.",
            )
        _add(draft, before, Signers.of(signers), copies)
        _write_draft(draft, file)
        return _finish(place, draft, before, Signers.of([*signers, *kept]), Lifetimes())


def read_draft(file: Path) -> Metadata[Root]:
    """The draft in a file. Raises NotFoundError, or BadFileError for anything else."""
    if not file.is_file():
        raise NotFoundError(f"There is no draft {file}.", hint="`pantry repo init` and `rotate` make one.")
    content = read_bounded(file, MAX_DRAFT)
    try:
        draft = Metadata[Root].from_bytes(content)
    except (RepositoryError, ValueError, RecursionError) as error:
        raise BadFileError(f"{file} is not a draft of a root: {error}.") from None
    if not isinstance(draft.signed, Root):
        raise BadFileError(f"{file} is TUF metadata of the role {draft.signed.type!r}; expected is 'root'.")
    return draft


def draft_keys(folder: Path) -> list[str]:
    """The ids of the keys that the draft in a repository's folder names; none without a draft."""
    return list(read_draft(folder / DRAFT).signed.keys) if (folder / DRAFT).is_file() else []


def _next_root(folder: Path, root: Metadata[Root], before: Root | None, signers: Signers, life: Lifetimes) -> RootState:
    if (folder / DRAFT).exists():
        raise ConflictError(
            f"{folder} has the draft of a root that waits for signatures.",
            hint=f"Sign it with: pantry repo sign {folder} --key KEY, or delete {folder / DRAFT}.",
        )
    root.signed.version += 1
    root.signed.expires = life.expiry("root")
    root.signatures.clear()
    _sign(root, before, signers)
    if not root.signatures:
        missing = ", ".join(keyid[:12] for keyid in (before or root.signed).roles["root"].keyids)
        raise UnauthorisedError(
            f"A root needs root keys, and none is here; missing: {missing}.", hint="Give one with --key KEY.pem."
        )
    return _finish(folder, root, before, signers, life)


def _finish(folder: Path, root: Metadata[Root], before: Root | None, signers: Signers, life: Lifetimes) -> RootState:
    """Make the root that of the repository if enough have signed and the online key is there, else keep the draft."""
    state = _state(root, before, folder / DRAFT)
    if state.missing or not signers.can(ONLINE, root.signed):
        _write_draft(root, folder / DRAFT)
        return state
    roles = Roles.load(folder) if before else Roles.fresh(folder, root.signed)
    roles.root = root
    roles.write_root()
    roles.write_online(signers, life)
    file = copy_root(folder)
    with storage_errors(f"Removing {DRAFT}"):
        (folder / DRAFT).unlink(missing_ok=True)
    return RootState(file, state.version, state.threshold, state.expires, state.signed, state.unsigned)


def _add(root: Metadata[Root], before: Root | None, signers: Signers, copies: Sequence[Path]) -> None:
    """Add the signatures at hand and those of copies, after checking those that are there."""
    _check(root, before)
    for file in copies:
        copied = read_draft(file)
        if copied.signed_bytes != root.signed_bytes:
            raise BadFileError(f"{file} is a copy of another draft, or was changed after it was signed.")
        for keyid, signature in copied.signatures.items():
            root.signatures.setdefault(keyid, signature)
        _check(root, before)
    if not _sign(root, before, signers) and signers.by_id:
        wanted = ", ".join(keyid[:12] for keyid in root.signed.roles["root"].keyids)
        raise UnauthorisedError("None of these keys may sign this root.", hint=f"It names: {wanted}.")


def _sign(root: Metadata[Root], before: Root | None, signers: Signers) -> bool:
    """Sign with the keys that may; whether there was one. A copy does not say which keys it removes: those may too."""
    known = {*root.signed.roles["root"].keyids, *(before.roles["root"].keyids if before else ())}
    is_copy = before is None and root.signed.version > 1
    signed = False
    for keyid, signer in signers.by_id.items():
        if keyid in known or (is_copy and keyid not in root.signed.keys):
            root.sign(signer, append=True)
            signed = True
    return signed


def _check(root: Metadata[Root], before: Root | None) -> None:
    """Raises BadFileError for a signature of a known key that does not fit."""
    payload = root.signed_bytes
    keys = {**(before.keys if before else {}), **root.signed.keys}
    for keyid, signature in root.signatures.items():
        key = keys.get(keyid)
        if key is None:
            continue
        try:
            key.verify_signature(signature, payload)
        except UnverifiedSignatureError as error:
            raise BadFileError(
                f"The draft was changed after the key {keyid[:12]} signed it.", hint="Do not sign it; ask who sent it."
            ) from error


def _state(root: Metadata[Root], before: Root | None, file: Path) -> RootState:
    result = root.signed.get_root_verification_result(before, root.signed_bytes, root.signatures)
    missing = max(result.first.missing, result.second.missing)
    threshold, expires = root.signed.roles["root"].threshold, root.signed.expires.isoformat()[:10]
    return RootState(
        file, root.signed.version, threshold, expires, tuple(result.signed), tuple(result.unsigned), missing
    )


def _root_before(folder: Path) -> Root | None:
    with contextlib.suppress(NotFoundError):
        newest_root(folder)
        return Roles.load(folder).root.signed
    return None


def _write_draft(draft: Metadata[Root], file: Path) -> None:
    write_atomically(file, draft.to_bytes(JSONSerializer(compact=False)))


def _key_named(root: Root, text: str) -> str:
    found = [keyid for keyid in root.roles["root"].keyids if keyid.startswith(text)]
    if len(found) != 1 or not text:
        listed = ", ".join(keyid[:12] for keyid in root.roles["root"].keyids)
        raise UsageError(f"{text!r} names {len(found)} of the root keys.", hint=f"They are: {listed}.")
    return found[0]
