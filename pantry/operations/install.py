"""From a flatpack file to the store: signature, licence, format, then all its files at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pantry.core.errors import BadFileError, PolicyRefusedError, VerificationError
from pantry.core.files import storage_errors
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.flatpack.archive import Reader
from pantry.flatpack.manifest import Manifest
from pantry.flatpack.signature import Verdict, judge
from pantry.flatpack.statement import Entry as FileEntry
from pantry.flatpack.trust import Trust, load_trust
from pantry.formats.safety import scan
from pantry.operations.admission import Candidate, admit
from pantry.operations.models import inspect_file
from pantry.repository.fetch import Fetcher
from pantry.store.blobs import Staged
from pantry.store.models import Store
from pantry.store.packages import NewFile, NewModel, NewPackage, Package, Packages

StepName = Literal[
    "resolving", "metadata verified", "waiting", "downloading", "digest verified", "signature", "licence", "installed"
]
Say = Callable[[StepName, str], None]
"""Told each step with a few words on its outcome."""


@dataclass(frozen=True)
class Arrival:
    """Where a flatpack comes from. `digest` is that of the file; `signed`: no mode makes up for a missing trust."""

    source: str
    digest: Digest | None = None
    name: ModelName | None = None
    expected: tuple[str, str] | None = None
    """The name and version it must be, where somebody promised them."""
    signed: bool = False


def install_flatpack(
    paths: Paths, store: Store, file: Path, arrival: Arrival, say: Say, trust: Trust | None = None
) -> Package:
    """Verify the flatpack and take its files into the store; a model gets its name there.

    Raises VerificationError for a signature that is missing, wrong or not trusted, or for another flatpack than
    promised; PolicyRefusedError for its licence or format; ConflictError when its name is taken; StorageError.
    Nothing is left behind then.
    """
    with Reader(file) as reader:
        verdict = judge(reader, trust or load_trust(paths))
        _check_signature(verdict, arrival)
        manifest = reader.manifest
        _check_promise(manifest, arrival)
        say("signature", verdict.sentence)
        candidate = Candidate(
            manifest.name,
            licence_of(manifest),
            manifest.model.family if manifest.model else None,
            signature=verdict.state,
            arrived=True,
        )
        say("licence", admit(paths, candidate).licence)
        fetcher = Fetcher(paths.partial)
        with fetcher.folder_for(reader.statement.contents) as folder:
            entries = reader.unbox(folder, verified_by=verdict)
            for entry in entries:
                check_format(folder / entry.path, entry.path)
            return _take_in(store, folder, entries, manifest, verdict, reader.statement.contents, arrival)


def licence_of(manifest: Manifest) -> str | None:
    """The licence that counts for use: of the weights, else of the data, else of the code."""
    return manifest.licence.weights or manifest.licence.data or manifest.licence.code


def local_name(package: str, tag: str = "latest") -> ModelName:
    """The name of a package's model on this machine: `ada/fox` becomes `ada-fox`."""
    return ModelName.parse(f"{package.replace('/', '-')}:{tag}")


def _check_signature(verdict: Verdict, arrival: Arrival) -> None:
    if not verdict.ok or (arrival.signed and verdict.state != "trusted"):
        raise VerificationError(
            verdict.sentence,
            hint="Trust a signer with: pantry key trust KEY.pem --for 'NAME*'. Nothing was installed.",
        )


def _check_promise(manifest: Manifest, arrival: Arrival) -> None:
    found = (manifest.name, manifest.version)
    if arrival.expected is not None and found != arrival.expected:
        promised = " ".join(arrival.expected)
        raise VerificationError(f"It should be {promised}, but it is {' '.join(found)}. Nothing was installed.")


def check_format(file: Path, shown: str) -> None:
    """Raises PolicyRefusedError for a file that hides code; no mode of the policy allows that."""
    verdict = scan(file)
    if verdict.level == "refused":
        reasons = "; ".join(str(finding) for finding in verdict.findings if finding.level == "refused")
        raise PolicyRefusedError(f"{shown} is refused: {reasons}.", hint="Nothing was installed.")


def _take_in(
    store: Store,
    folder: Path,
    entries: Sequence[FileEntry],
    manifest: Manifest,
    verdict: Verdict,
    contents: Digest,
    arrival: Arrival,
) -> Package:
    model = _model(folder, entries, manifest, verdict, arrival) if manifest.kind == "model" else None
    package = NewPackage(
        manifest.name,
        manifest.version,
        manifest.kind,
        manifest.summary,
        contents,
        arrival.source,
        arrival.digest,
        verdict.signer,
        manifest.model_dump(mode="json", exclude_none=True),
    )
    files = [NewFile(entry.path, staged(folder / entry.path, entry.digest), entry.executable) for entry in entries]
    return Packages(store).install(package, files, model)


def staged(file: Path, digest: Digest) -> Staged:
    """A file whose digest is known, read-only from now on, ready to become a blob."""
    with storage_errors(f"Installing {file.name}"):
        file.chmod(0o444)
        return Staged(file, digest, file.stat().st_size)


def _model(
    folder: Path, entries: Sequence[FileEntry], manifest: Manifest, verdict: Verdict, arrival: Arrival
) -> NewModel | None:
    path = _weights(entries, manifest)
    if path is None:
        return None
    kind, facts = inspect_file(folder / path)
    told: dict[str, Any] = {
        "licence": licence_of(manifest),
        "version": manifest.version,
        "package": manifest.name,
        "signed_by": verdict.signer,
        "summary": manifest.summary,
    }
    if manifest.model:
        told |= {"family": manifest.model.family, "tags": list(manifest.model.tags)}
    facts |= {key: value for key, value in told.items() if value}
    return NewModel(arrival.name or local_name(manifest.name), path, kind, facts)


def _weights(entries: Sequence[FileEntry], manifest: Manifest) -> str | None:
    """The file an engine loads: the one the manifest names, else the only GGUF file; None for other formats."""
    paths = [entry.path for entry in entries]
    named = manifest.model.file if manifest.model else None
    if named is not None:
        if named not in paths:
            raise BadFileError(f"The manifest names the file {named!r}, which is not in the flatpack.")
        return named if named.endswith((".gguf", ".echo")) else None
    found = [path for path in paths if path.endswith((".gguf", ".echo"))]
    if len(found) > 1:
        raise BadFileError(f"The flatpack holds {len(found)} models, and its manifest does not say which to load.")
    return found[0] if found else None
