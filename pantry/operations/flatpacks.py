"""Flatpacks: start one, pack, sign, verify, inspect, unbox. Version 2 and the legacy format alike."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pantry.core.errors import ConflictError, NotFoundError, UsageError, VerificationError, did_you_mean
from pantry.core.files import folder_beside, remove_stale, storage_errors, write_atomically
from pantry.core.paths import Paths
from pantry.core.progress import Progress
from pantry.flatpack.archive.archive import Packed, Reader, pack
from pantry.flatpack.archive.verdict import Verdict
from pantry.flatpack.legacy.archive import (
    compress,
    is_legacy,
    open_legacy,
    sign_legacy,
    unbox_legacy,
    write_legacy_data,
)
from pantry.flatpack.legacy.containerfile import to_containerfile
from pantry.flatpack.legacy.recipe import load_recipe
from pantry.flatpack.legacy.trust import judge_legacy
from pantry.flatpack.legacy.venv_script import to_venv_script
from pantry.flatpack.manifest import CARD_NAME, MANIFEST_NAME, Manifest, read_table
from pantry.flatpack.outputs import check_output, is_compressed, is_flatpack, is_legacy_flatpack
from pantry.flatpack.signing.keyring import Ask, read_public_file, signing_keys
from pantry.flatpack.signing.keys import HashSize, PrivateKey, hash_size
from pantry.flatpack.signing.signature import judge, sign, verify
from pantry.flatpack.signing.trust import Trust, load_trust
from pantry.flatpack.statement import Entry
from pantry.flatpack.templates import Template, template_files, template_folders

TEMPLATES: tuple[Template, ...] = ("model", "recipe", "adapter", "dataset")
Format = Literal["2", "legacy"]


@dataclass(frozen=True)
class Inspection:
    """What head and tail of a flatpack tell. `signers` are `(kind of key, key id)`; nothing of it is verified."""

    path: Path
    size: int
    manifest: Manifest
    contents: str
    entries: tuple[Entry, ...]
    frames: int
    signers: tuple[tuple[str, str], ...]

    @property
    def data(self) -> str:
        """Where it tells of its data: the card, or the manifest's word on why there is none."""
        if any(entry.path == CARD_NAME for entry in self.entries):
            return f"described in {CARD_NAME}"
        reason = self.manifest.provenance.data_unknown
        return f"not known: {reason}" if reason else "not told"


@dataclass(frozen=True)
class Unboxed:
    """What was unboxed: where, which files, and what was found about the signature."""

    folder: Path
    files: tuple[str, ...]
    verdict: Verdict


def start_flatpack(folder: Path, template: str = "model") -> list[Path]:
    """Write the files of a template into `folder`; returns them. Raises ConflictError rather than overwrite a file."""
    if template not in TEMPLATES:
        hint = did_you_mean(template, TEMPLATES, f"Known: {', '.join(TEMPLATES)}.")
        raise UsageError(f"There is no template {template!r}.", hint=hint)
    kind: Template = next(known for known in TEMPLATES if known == template)
    files = template_files(kind, _name_from(folder))
    if taken := [name for name in files if os.path.lexists(folder / name)]:
        raise ConflictError(f"{folder / taken[0]} exists already.", hint="Name a new folder.")
    for name, text in files.items():
        write_atomically(folder / name, text.encode(), mode=0o755 if name.endswith(".sh") else 0o644)
    with storage_errors(f"Making {folder}"):
        for name in template_folders(kind):
            (folder / name).mkdir(exist_ok=True)
    return [folder / name for name in files]


def _name_from(folder: Path) -> str:
    """The folder's name, where it will do as a flatpack's name; else a field to fill in."""
    from pydantic import TypeAdapter, ValidationError

    from pantry.flatpack.manifest import Name

    try:
        return str(TypeAdapter(Name).validate_python(Path(os.path.realpath(folder)).name.lower()))
    except ValidationError:
        return "[publisher/name]"


def pack_flatpack(
    folder: Path, out: Path | None = None, *, level: int | None = 1, progress: Progress | None = None
) -> Packed:
    """Pack a folder into `out` (else `<folder>.fpk` beside it). See `pantry.flatpack.archive.archive.pack`.

    Raises ConflictError rather than overwrite anything but a flatpack.
    """
    if level is not None and not 1 <= level <= 22:
        raise UsageError(f"The level is {level}; expected 1 (fast) to 22 (small).")
    folder = Path(os.path.realpath(folder))
    out = out or folder.parent / f"{folder.name}.fpk"
    check_output(out, "a flatpack", is_flatpack)
    return pack(folder, out, level=level, progress=progress)


def sign_flatpack(
    paths: Paths,
    fpk: Path,
    key: str,
    ask: Ask,
    *,
    out: Path | None = None,
    bits: int = 256,
    form: str = "2",
    progress: Progress | None = None,
) -> Path:
    """Sign with an identity's keys or with a PEM file; returns where the signed file is.

    `form` "legacy" writes the format of 2023 with the identity's RSA key, always into a file of its own. `bits` is the
    hash of RSA signatures. Raises ConflictError rather than overwrite anything but a flatpack of that format.
    """
    size = hash_size(bits)
    if form not in ("2", "legacy"):
        raise UsageError(f"There is no format {form!r}.", hint="Known: 2, legacy.")
    _must_exist(fpk)
    if is_legacy(fpk):
        raise UsageError(f"{fpk.name} is a legacy flatpack already.", hint="Unbox it, pack it again, and sign that.")
    if form == "legacy":
        if out is None:
            raise UsageError(
                f"A legacy flatpack does not take the place of {fpk.name}.", hint="Name the file to write with -o."
            )
        check_output(out, "a legacy flatpack", is_legacy_flatpack, [fpk, Path(key)])
        return _sign_legacy(fpk, signing_keys(paths, key, ask), out, size, progress)
    if out is not None:
        check_output(out, "a flatpack", is_flatpack, [Path(key)])
    return sign(fpk, signing_keys(paths, key, ask), out, bits=size, progress=progress)


def _sign_legacy(fpk: Path, keys: Sequence[PrivateKey], out: Path, bits: HashSize, progress: Progress | None) -> Path:
    rsa = next((key for key in keys if key.public.is_rsa), None)
    if rsa is None:
        raise UsageError(
            "The legacy format needs an RSA key.", hint="Make one with: pantry key new NAME --type rsa4096"
        )
    remove_stale(out)
    with Reader(fpk) as reader, storage_errors(f"Writing {out}"), folder_beside(out) as folder:
        reader.check_contents()
        data = folder / "data"
        write_legacy_data(reader.tar_stream(progress), reader.tar_size, data)
        sign_legacy(data, out, rsa, bits)
    return out


def verify_flatpack(paths: Paths, path: Path, key: Path | None = None, progress: Progress | None = None) -> Verdict:
    """The verdict on a flatpack or an unboxed folder, by the rules of trust or by one public key alone."""
    trust = _trust(paths, key)
    if path.is_file() and is_legacy(path):
        return judge_legacy(open_legacy(path), trust, key.name if key else None)[0]
    return verify(path, trust, progress)


def _trust(paths: Paths, key: Path | None) -> Trust:
    return Trust.only(*read_public_file(key), name=key.stem) if key else load_trust(paths)


def inspect_flatpack(path: Path) -> Inspection:
    """What is in a flatpack, from its head and tail; nothing is unpacked or verified."""
    _must_exist(path)
    if is_legacy(path):
        raise UsageError(f"{path.name} is a legacy flatpack, which has no list of files.", hint="Verify and unbox it.")
    with Reader(path) as reader:
        bundle = reader.bundle
        signers = tuple(
            (kind or "ECDSA", key or bundle.hint)
            for kind, _, key in (signature.keyid.rpartition(":") for signature in bundle.signatures)
        )
        return Inspection(
            path,
            path.stat().st_size,
            reader.manifest,
            str(reader.statement.contents),
            reader.entries,
            len(reader.statement.frames),
            signers,
        )


def unbox_flatpack(
    paths: Paths,
    path: Path,
    folder: Path | None = None,
    *,
    only: Sequence[str] = (),
    allow_unsigned: bool = False,
    key: Path | None = None,
    progress: Progress | None = None,
) -> Unboxed:
    """Unbox into a new folder (else `<name>` here), the signature first.

    Raises VerificationError when the signature is bad, or is missing or not trusted where the mode asks for it;
    `allow_unsigned` lets the last two pass, never a bad one. With `key` that key must have signed it, whatever else
    is asked for.
    """
    _must_exist(path)
    target = folder or Path(path.stem)
    trust = _trust(paths, key)
    if is_legacy(path):
        if only:
            raise UsageError("A legacy flatpack has no list of files, so --only cannot pick from it.")
        found = open_legacy(path)
        verdict, signed = judge_legacy(found, trust, key.name if key else None)
        _require(verdict, key, allow_unsigned)
        return Unboxed(target, tuple(unbox_legacy(found, target, signed)), verdict)
    with Reader(path) as reader:
        verdict = judge(reader, trust)
        _require(verdict, key, allow_unsigned)
        written = reader.unbox(target, list(only) or None, verdict if verdict.ok else None, progress)
    return Unboxed(target, tuple(entry.path for entry in written), verdict)


def _require(verdict: Verdict, key: Path | None, allow_unsigned: bool) -> None:
    """Raises VerificationError, with the way out, unless the verdict lets the flatpack be unboxed."""
    if key and verdict.state != "trusted":
        raise VerificationError(verdict.sentence, hint=f"With --key only what {key.name} signed is unboxed.")
    if verdict.state == "bad":
        raise VerificationError(verdict.sentence, hint="Fetch it again from its publisher.")
    if verdict.ok or allow_unsigned:
        return
    if verdict.state == "unsigned":
        hint = "Ask its publisher for a signed one, or take it as it is with --allow-unsigned."
    else:
        hint = "Trust the key with `pantry key trust KEY.pem`, give --key, or take it as it is with --allow-unsigned."
    raise VerificationError(verdict.sentence, hint=hint)


def require_2023(path: Path) -> None:
    """Raises UsageError unless the file is of the format of 2023, whose manifest a container can be made of."""
    _must_exist(path)
    if not is_legacy(path):
        raise UsageError(
            f"{path.name} is not of the format of 2023; only that one's flatpack.toml describes a container.",
            hint="Unbox it without --containerfile. A recipe of today is run with: pantry train FOLDER",
        )


def write_containerfile(folder: Path) -> list[Path]:
    """Turn a `flatpack.toml` of 2023 in `folder` (or one level below) into `Containerfile` and `venv.sh` beside it."""
    places = [folder, *sorted(item for item in folder.iterdir() if item.is_dir())]
    place = next((item for item in places if (item / MANIFEST_NAME).is_file()), None)
    if place is None:
        raise NotFoundError(f"There is no {MANIFEST_NAME} in {folder}.")
    file = place / MANIFEST_NAME
    with storage_errors(f"Reading {file}"):
        content = file.read_bytes()
    if "flatpack" in read_table(content, str(file)):
        raise UsageError(f"{file} is of version 2, which has no container to build.")
    recipe = load_recipe(content, str(file))
    made = {"Containerfile": (to_containerfile(recipe), 0o644), "venv.sh": (to_venv_script(recipe), 0o755)}
    for name, (text, mode) in made.items():
        if (place / name).exists():
            raise ConflictError(f"{place / name} exists already.")
        write_atomically(place / name, text.encode(), mode=mode)
    return [place / name for name in made]


def compress_and_sign(source: Path, compressed: Path, signed: Path, key: Path, bits: int, ask: Ask) -> None:
    """What the script of 2023 did: compress a file or folder to `compressed`, and sign it into `signed`."""
    from pantry.core.paths import find_paths

    if not key.is_file():
        raise NotFoundError(f"There is no key file {key}.")
    real_source, *real_outs = [Path(os.path.realpath(path)) for path in (source, compressed, signed)]
    if real_outs[0] == real_outs[1]:
        raise UsageError(f"{signed} is named as one file for both results.", hint="Name two files, with -o and -s.")
    for out, kind, is_of_kind in (
        (compressed, "a compressed file", is_compressed),
        (signed, "a legacy flatpack", is_legacy_flatpack),
    ):
        if source.is_dir() and Path(os.path.realpath(out)).is_relative_to(real_source):
            raise UsageError(f"{out} lies inside the folder to be compressed.", hint="Name a file outside it.")
        check_output(out, kind, is_of_kind, [source, key])
    (private,) = signing_keys(find_paths(), str(key), ask)
    size = hash_size(bits)
    if not private.public.is_rsa:
        raise UsageError(f"The legacy format needs an RSA key; {key} is {private.public.type}.")
    compress(source, compressed)
    sign_legacy(compressed, signed, private, size)


def verify_signed(signed: Path, key: Path) -> Verdict:
    """What the other script of 2023 did, for all three hashes: whether this key signed the legacy file."""
    return judge_legacy(open_legacy(signed), Trust.only(*read_public_file(key), name=key.stem), key.name)[0]


def _must_exist(path: Path) -> None:
    """Raises NotFoundError or UsageError unless a file, as flatpacks are, is there."""
    if path.is_dir():
        raise UsageError(
            f"{path} is a folder; expected a flatpack, which is a file.",
            hint=f"To check an unboxed folder: pantry verify {path}. To make a flatpack of it: pantry pack {path}.",
        )
    if not path.exists():
        raise NotFoundError(f"There is no file {path}.")
    if not path.is_file():
        raise UsageError(f"{path} is a device, pipe or socket; expected a flatpack, which is a plain file.")
