"""Signing and verifying: the bundle's signatures against the keys this machine trusts, then the bytes against the list.

A verdict says one of four things: trusted; signed, but by nobody trusted for that name; not signed; or bad. Bad is
never accepted; the two in the middle are as the trust mode says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from pantry.core.errors import BadFileError, NotFoundError, UsageError
from pantry.core.files import read_bounded, remove_stale, staged_file, storage_errors
from pantry.core.progress import Progress
from pantry.core.units import printable
from pantry.flatpack.archive._reader import Reader
from pantry.flatpack.archive._tail import write_tail
from pantry.flatpack.archive.bundle import MAX_BUNDLE, Bundle, Signature, load_bundle
from pantry.flatpack.archive.verdict import State, Verdict
from pantry.flatpack.folder import check_folder
from pantry.flatpack.manifest import MANIFEST_LIMIT, MANIFEST_NAME, parse_manifest, read_table
from pantry.flatpack.names import BUNDLE_NAME, GIT_NAMES
from pantry.flatpack.signing.keys import HashSize, PrivateKey, PublicKey
from pantry.flatpack.signing.trust import Trust
from pantry.flatpack.statement import Statement, load_statement


def sign(
    fpk: Path,
    keys: Sequence[PrivateKey],
    out: Path | None = None,
    *,
    bits: HashSize = 256,
    progress: Progress | None = None,
) -> Path:
    """Sign the flatpack with every key and write it to `out` (else in its place); returns where it is.

    Everything is decoded and checked first: what is signed is what is there. Earlier signatures are replaced. ECDSA
    comes first, since `model_signing` reads the first entry only. `bits` is the hash of RSA keys. Raises UsageError
    without a key, BadFileError or VerificationError for a damaged flatpack.
    """
    if not keys:
        raise UsageError("There is no key to sign with.", hint="Make one with: pantry key new NAME")
    ordered = sorted(keys, key=lambda key: key.public.is_rsa)
    target = out or fpk
    with Reader(fpk) as reader:
        reader.check_contents(progress)
        bundle = sign_payload(reader.bundle.payload, ordered, bits)
        remove_stale(target)
        # What only its owner may read stays so.
        with staged_file(target, mode=stat.S_IMODE(os.fstat(reader.descriptor).st_mode) & 0o666) as file:
            _copy(reader.descriptor, file, reader.data_size)
            write_tail(file, reader.statement.frames, bundle)
    return target


def sign_payload(payload: bytes, keys: Sequence[PrivateKey], bits: int = 256) -> Bundle:
    """A bundle with one signature per key, in that order."""
    unsigned = Bundle(payload)
    signatures = tuple(Signature(key.sign(unsigned.signed_bytes, bits), key.public.keyid(bits)) for key in keys)
    return Bundle(payload, signatures, keys[0].public.hint)


def _copy(source: int, target: BinaryIO, size: int) -> None:
    """Copy the first `size` bytes; within one file system without moving them, where it can."""
    done = 0
    if hasattr(os, "copy_file_range"):
        try:
            while done < size:
                step = os.copy_file_range(source, target.fileno(), size - done, done, done)
                if not step:
                    break
                done += step
        except OSError:
            done = 0
    target.seek(done)
    if done < size:
        with os.fdopen(os.dup(source), "rb") as rest:
            rest.seek(done)
            shutil.copyfileobj(rest, target, 1 << 20)
            target.truncate(size)
            target.seek(size)


def verify(path: Path, trust: Trust, progress: Progress | None = None) -> Verdict:
    """Verify a `.fpk` file, or an unboxed folder with `model.sig` in it: signature, trust, and every byte.

    What is wrong with the bytes comes back as a verdict too. Raises NotFoundError or StorageError only.
    """
    if not path.exists():
        raise NotFoundError(f"There is no {path}.")
    try:
        if path.is_dir():
            return _verify_folder(path, trust, progress)
        with Reader(path) as reader:
            verdict = judge(reader, trust)
            if verdict.state != "bad":
                reader.check(progress)
            return verdict
    except BadFileError as error:
        return Verdict(False, "bad", str(error), path.name)


def judge(reader: Reader, trust: Trust) -> Verdict:
    """Check the signature and its trust, and the manifest; not the rest, which `check` and `unbox` do."""
    try:
        named = f"{reader.statement.name} {reader.manifest.version}"
    except BadFileError as error:
        return _verdict(reader.bundle, reader.statement.name, trust, "bad", str(error))
    return judge_bundle(reader.bundle, reader.statement, trust, named)


def judge_bundle(bundle: Bundle, statement: Statement, trust: Trust, named: str) -> Verdict:
    """The verdict on the signatures of a bundle alone. `named` is how the sentence calls what is signed."""
    if not bundle.signatures:
        return _verdict(bundle, statement.name, trust, "unsigned", f"{named} is not signed.")
    refusals: list[str] = []
    accepted: str | None = None
    signer: str | None = None
    for number, signature in enumerate(bundle.signatures):
        key = _key_for(signature, bundle.hint if number == 0 else "", trust)
        if key is None:
            refusals.append(f"{named} is signed by a key that is not known here ({_shown(signature, bundle.hint)}).")
            continue
        who = f"{trust.owner(key.id) or 'an unnamed key'} ({key.type} {key.id[:12]})"
        if not _is_by(key, signature, bundle, first=number == 0):
            sentence = f"The signature of {named} by {who} is wrong: something was changed after signing."
            return _verdict(bundle, statement.name, trust, "bad", sentence)
        trusted_for, problem = _trusted(key, statement.name, trust)
        if trusted_for:
            accepted = accepted or f"{named} is signed by {who}, trusted for {trusted_for!r}."
            signer = signer or trust.owner(key.id) or key.id
        else:
            refusals.append(f"{named} is signed by {who}, but {problem}.")
    if accepted:
        return _verdict(bundle, statement.name, trust, "trusted", accepted, signer)
    return _verdict(bundle, statement.name, trust, "untrusted", refusals[0])


def _verdict(
    bundle: Bundle, name: str, trust: Trust, state: State, sentence: str, signer: str | None = None
) -> Verdict:
    ok = state == "trusted" or (state in ("untrusted", "unsigned") and trust.mode != "enforce")
    return Verdict(ok, state, sentence, name, signer, hashlib.sha256(bundle.payload).hexdigest())


def _key_for(signature: Signature, hint: str, trust: Trust) -> PublicKey | None:
    """The known key that a signature names: by its identity in the keyid, or by the bundle's hint."""
    named = signature.keyid.rpartition(":")[2]
    if named in trust.keys:
        return trust.keys[named]
    return next((key for key in trust.keys.values() if hint and key.hint == hint), None)


def _is_by(key: PublicKey, signature: Signature, bundle: Bundle, *, first: bool) -> bool:
    """Whether the key made the signature, and is named rightly; the standard's own signer gives no keyid."""
    if first and bundle.hint not in ("", key.hint):
        return False
    if signature.keyid and signature.keyid not in (key.keyid(bits) for bits in (256, 384, 512)):
        return False
    return key.verifies(signature.value, bundle.signed_bytes, signature.keyid)


def _shown(signature: Signature, hint: str) -> str:
    kind, _, named = printable(signature.keyid).rpartition(":")  # a stranger wrote it
    kind = kind[:40]
    return f"{kind} {named[:12]}" if named else f"hint {hint[:12]}"


def _trusted(key: PublicKey, name: str, trust: Trust) -> tuple[str | None, str]:
    """The pattern under which the key may sign that name, or None and the reason."""
    rules = trust.rules_for(key.id)
    matching = [rule for rule in rules if rule.matches(name)]
    for rule in matching:
        if rule.problem(trust.today) is None:
            return rule.pattern, ""
    if matching:
        return None, str(matching[0].problem(trust.today))
    patterns = ", ".join(repr(rule.pattern) for rule in rules) or "nothing"
    return None, f"that key is trusted for {patterns} only, not for {name!r}"


def _verify_folder(folder: Path, trust: Trust, progress: Progress | None) -> Verdict:
    file, title = folder / BUNDLE_NAME, folder.resolve().name or str(folder.resolve())
    if not file.is_file():
        return Verdict(trust.mode != "enforce", "unsigned", f"The folder {title} has no {BUNDLE_NAME}.", title)
    bundle = load_bundle(read_bounded(file, MAX_BUNDLE))
    statement = _named_by_manifest(load_statement(bundle.payload), folder)
    verdict = judge_bundle(bundle, statement, trust, statement.name)
    if verdict.state != "bad":
        ignored = GIT_NAMES.intersection(statement.ignored) | {BUNDLE_NAME}
        check_folder(folder, statement.entries, ignored, progress)
    return verdict


def _named_by_manifest(statement: Statement, folder: Path) -> Statement:
    """The statement under the name of the manifest, which is what the package is called once it is used.

    A statement of ours must have that name. One by another tool is for the folder's name of that time, so that whose
    name it is follows from the manifest, where there is one of version 2. Raises BadFileError.
    """
    file = folder / MANIFEST_NAME
    if not file.is_file():
        return statement
    with storage_errors(f"Reading {file}"), file.open("rb") as opened:
        content = opened.read(MANIFEST_LIMIT + 1)
    if not statement.frames and "flatpack" not in read_table(content, MANIFEST_NAME):
        return statement
    name = parse_manifest(content).name
    if statement.frames and name != statement.name:
        raise BadFileError(f"The statement is for {statement.name!r}, the manifest for {name!r}.")
    return replace(statement, name=name)
