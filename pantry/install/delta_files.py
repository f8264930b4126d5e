"""What commands on deltas are given, opened: models by file, folder or name, and deltas with the verdict on them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pantry.core.errors import BadFileError, NotFoundError, UsageError, VerificationError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.flatpack.archive.archive import Reader
from pantry.flatpack.archive.verdict import Verdict
from pantry.flatpack.manifest import Manifest
from pantry.flatpack.signing.signature import judge, verify
from pantry.flatpack.signing.trust import load_trust
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.sources import Source


def open_model(paths: Paths, reference: str) -> Source:
    """A file, a folder, or the file of an installed model. Raises NotFoundError, BadFileError, VerificationError."""
    path = Path(reference)
    if path.exists():
        return Source.open(path)
    try:
        name = ModelName.parse(reference)
    except UsageError:
        raise NotFoundError(f"There is no file or folder {reference}.") from None
    from pantry.store.models import Store

    if not paths.database.exists():
        raise NotFoundError(f"{reference!r} is not a file or folder, and no model is installed.")
    with Store.open(paths) as store:
        model = store.get(name)
        called = f"{model.name.name}{model.kind.suffix}"
        digests = {part.path: part.digest for part in model.parts}
        files = [(part.path, part.place, digests[part.path]) for part in store.verified_parts(model)]
        if len(files) == 1:
            return Source.gather(called, [(called, *files[0][1:])], is_file=True)
        return Source.gather(str(model.name), files, is_file=False)


@contextlib.contextmanager
def opened_delta(paths: Paths, path: Path, room: Path) -> Iterator[tuple[DeltaFolder, Verdict]]:
    """An open delta, its bytes checked against its statement, and the verdict. A bad signature is an error."""
    trust = load_trust(paths)
    if path.is_dir():
        verdict = verify(path, trust)
        folder = path
    else:
        if not path.is_file():
            raise NotFoundError(f"There is no delta {path}.")
        with Reader(path) as reader:
            verdict = judge(reader, trust)
            if verdict.state != "bad":
                _require_delta(reader.manifest)
                reader.unbox(room)
        folder = room
    if verdict.state == "bad":
        raise VerificationError(verdict.sentence, hint="Fetch the delta again.")
    with DeltaFolder(folder) as delta:
        yield delta, verdict


def _require_delta(manifest: Manifest) -> None:
    if manifest.kind != "delta":
        raise BadFileError(f"{manifest.name} is a {manifest.kind}, not a delta.")
