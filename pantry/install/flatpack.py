"""From a flatpack file to the store: signature, licence, format, then all its files at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pantry.core.errors import VerificationError
from pantry.core.files import storage_errors
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.flatpack.archive.archive import Reader
from pantry.flatpack.archive.verdict import Verdict
from pantry.flatpack.manifest import Manifest, licence_of
from pantry.flatpack.signing.signature import judge
from pantry.flatpack.signing.trust import Trust, load_trust
from pantry.flatpack.statement import Entry as FileEntry
from pantry.formats.model_files import model_in
from pantry.formats.split import part_name
from pantry.install.format_check import check_format
from pantry.install.model_facts import merge_facts
from pantry.install.split_files import joined
from pantry.policy.admission import Candidate, admit
from pantry.repository.fetch import Fetcher
from pantry.repository.refs import local_name
from pantry.store.blobs import Staged
from pantry.store.models import Store
from pantry.store.packages import NewFile, NewModel, NewPackage, Package, Packages

StepName = Literal[
    "resolving", "metadata verified", "waiting", "downloading", "digest verified", "signature", "licence",
    "joining", "base terms", "base found", "rebuilding", "installed",
]  # fmt: skip
OnStep = Callable[[StepName, str], None]
"""Told each step with a few words on its outcome."""


@dataclass(frozen=True)
class InstallSource:
    """Where a flatpack comes from. `digest` is that of the file; `signed`: no mode makes up for a missing trust.

    `shipped`: it came with Pantry.
    """

    source: str
    digest: Digest | None = None
    name: ModelName | None = None
    expected: tuple[str, str] | None = None
    """The name and version it must be, where somebody promised them."""
    signed: bool = False
    shipped: bool = False


@dataclass(frozen=True)
class VerifiedFlatpack:
    """A flatpack that may come in: its files in `folder`, and what was found of it."""

    arrival: InstallSource
    folder: Path
    entries: Sequence[FileEntry]
    manifest: Manifest
    verdict: Verdict
    contents: Digest


@dataclass(frozen=True)
class IncomingFile:
    """A file on its way into the store: its path in the package, where it is now, and its digest."""

    path: str
    file: Path
    digest: Digest
    executable: bool = False


@contextlib.contextmanager
def arrived(
    paths: Paths, file: Path, arrival: InstallSource, say: OnStep, trust: Trust | None = None
) -> Iterator[VerifiedFlatpack]:
    """The files of a flatpack, while the block runs, its signature, licence and format checked.

    Raises VerificationError for a signature that is missing, wrong or not trusted, or for another flatpack than
    promised; PolicyRefusedError for its licence or format; StorageError. Nothing is left behind.
    """
    with Reader(file) as reader:
        verdict = judge(reader, trust or load_trust(paths))
        manifest = reader.manifest
        _check_signature(verdict, arrival, manifest)
        _check_promise(manifest, arrival)
        say("signature", verdict.sentence)
        candidate = Candidate(
            manifest.name,
            licence_of(manifest),
            manifest.model.family if manifest.model else None,
            signature=verdict.state,
            files=tuple(entry.digest for entry in reader.statement.entries),  # unboxing holds the files to them
            arrived=True,
            shipped=arrival.shipped,
        )
        say("licence", admit(paths, candidate).licence)
        fetcher = Fetcher(paths.partial)
        with fetcher.folder_for(reader.statement.contents) as folder:
            entries = reader.unbox(folder, verified_by=verdict)
            for entry in entries:
                check_format(folder / entry.path, entry.path)
            yield VerifiedFlatpack(arrival, folder, entries, manifest, verdict, reader.statement.contents)


def install_flatpack(
    paths: Paths, store: Store, file: Path, arrival: InstallSource, say: OnStep, trust: Trust | None = None
) -> Package:
    """Verify the flatpack and take its files into the store as they are. Raises as `arrived` and `install_files`."""
    with arrived(paths, file, arrival, say, trust) as new:
        return take_in(store, new)


def take_in(store: Store, new: VerifiedFlatpack) -> Package:
    """Take the files of a flatpack into the store; a model gets its name there, and its parts become one.

    Raises as `install_files`.
    """
    whole = joined([(entry.path, new.folder / entry.path, entry.digest) for entry in new.entries], new.folder)
    executable = {entry.path for entry in new.entries if entry.executable}
    files = [IncomingFile(path, place, digest, path in executable) for path, place, digest in whole]
    return install_files(store, new, files, new.manifest.kind, {})


def _check_signature(verdict: Verdict, arrival: InstallSource, manifest: Manifest) -> None:
    """A delta that was pulled must be signed whatever the mode: what it builds is in no list but its own."""
    must = arrival.signed or (manifest.kind == "delta" and arrival.expected is not None)
    if not verdict.ok or (must and verdict.state != "trusted"):
        raise VerificationError(
            verdict.sentence,
            hint="Trust a signer with: pantry key trust KEY.pem --for 'NAME*'. Nothing was installed.",
        )


def _check_promise(manifest: Manifest, arrival: InstallSource) -> None:
    found = (manifest.name, manifest.version)
    if arrival.expected is not None and found != arrival.expected:
        promised = " ".join(arrival.expected)
        raise VerificationError(f"It should be {promised}, but it is {' '.join(found)}. Nothing was installed.")


def install_files(
    store: Store, new: VerifiedFlatpack, files: Sequence[IncomingFile], kind: str, facts: Mapping[str, Any]
) -> Package:
    """Take `files` into the store as the flatpack's package, of that kind; a model has `facts` beside its own.

    Raises BadFileError for a damaged model, ConflictError when its name is taken, StorageError.
    """
    model = _model(files, new, facts) if kind == "model" else None
    manifest = new.manifest
    package = NewPackage(
        manifest.name,
        manifest.version,
        kind,
        manifest.summary,
        new.contents,
        new.arrival.source,
        new.arrival.digest,
        new.verdict.signer,
        manifest.model_dump(mode="json", exclude_none=True),
    )
    taken = [NewFile(each.path, staged(each.file, each.digest), each.executable) for each in files]
    return Packages(store).install(package, taken, model)


def staged(file: Path, digest: Digest) -> Staged:
    """A file whose digest is known, read-only from now on, ready to become a blob."""
    with storage_errors(f"Installing {file.name}"):
        file.chmod(0o444)
        return Staged(file, digest, file.stat().st_size)


def _model(files: Sequence[IncomingFile], new: VerifiedFlatpack, more: Mapping[str, Any]) -> NewModel | None:
    manifest = new.manifest
    named = manifest.model.file if manifest.model else None
    part = part_name(named) if named is not None else None
    found = model_in({each.path: each.file for each in files}, part.whole if part else named)
    if found is None:
        return None
    told: dict[str, Any] = {
        "licence": licence_of(manifest),
        "version": manifest.version,
        "package": manifest.name,
        "signed_by": new.verdict.signer,
        "summary": manifest.summary,
    }
    if manifest.model:
        told |= {"family": manifest.model.family, "tags": list(manifest.model.tags)}
    return NewModel(
        new.arrival.name or local_name(manifest.name),
        {each.path: each.role for each in found.parts},
        found.format.name,
        merge_facts(found.facts, told | dict(more)),
    )
