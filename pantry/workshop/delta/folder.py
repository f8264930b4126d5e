"""A delta as a folder: its manifest `flatpack.toml`, its payload, and what else its publisher put beside them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.flatpack.manifest import Delta, DeltaBase, FileFact, Manifest, dump_manifest, read_manifest
from pantry.flatpack.names import NameGuard
from pantry.formats.layout import OpenFile
from pantry.workshop.delta.payload import PAYLOAD_NAME, BaseBytes, BaseTensor, Index, Payload
from pantry.workshop.delta.sources import Source, part_of


class DeltaFolder:
    """An open delta: manifest and payload, which agree on what comes out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        self.table = _table(self.manifest)
        if not (folder / PAYLOAD_NAME).is_file():
            raise NotFoundError(f"There is no {PAYLOAD_NAME} in {folder}.", hint="Fetch the whole delta again.")
        self._file = OpenFile(folder / PAYLOAD_NAME)
        try:
            self.payload = Payload(self._file)
            _check_agreement(self.table, self.payload.index)
        except BaseException:
            self._file.close()
            raise

    @property
    def identity(self) -> str:
        """64 hex digits that stand for exactly this delta."""
        return hashlib.sha256(dump_manifest(self.manifest).encode()).hexdigest()

    def close(self) -> None:
        """Close the payload."""
        self._file.close()

    def __enter__(self) -> DeltaFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _table(manifest: Manifest) -> Delta:
    if manifest.delta is None:
        raise BadFileError(f"{manifest.name} is a {manifest.kind}, not a delta.")
    return manifest.delta


def _check_agreement(table: Delta, index: Index) -> None:
    """The manifest, which is signed, must list the very files that the payload builds. Their names must not clash."""
    guard = NameGuard()
    for file in index.files:
        guard.add(file.path)
    listed = [(fact.path, fact.digest.hex, fact.size) for fact in table.results]
    built = [(file.path, file.digest, file.size) for file in index.files]
    if listed != built:
        odd = next((pair for pair in zip(listed, built, strict=False) if pair[0] != pair[1]), (None, None))
        raise BadFileError(
            f"The manifest and the payload of this delta disagree on {(odd[0] or odd[1] or ('a file',))[0]!r}.",
            hint="They come from different deltas, or one was changed. Fetch the delta again.",
        )


def delta_table(
    index: Index, base: Source, *, name: str, repository: str | None, progress: Progress | None = None
) -> Delta:
    """The manifest's `delta` table: the base files that were used, by digest, and the result files.

    Reads the base twice, once for its files and once for its tensors; `progress` counts both.
    """
    used = sorted(_used_files(index, base))
    read = sum(base.by_path[path].layout.size for path in used)
    total = read + base.tensor_bytes
    base.hash_files(used, part_of(progress, 0, total))
    base.hash_contents(part_of(progress, read, total))
    files = tuple(FileFact(path=p, digest=base.by_path[p].digest, size=base.by_path[p].layout.size) for p in used)
    results = tuple(FileFact(path=f.path, digest=Digest(f.digest), size=f.size) for f in index.files)
    contents = base.contents if base.tensors else None
    accepted = DeltaBase(name=name, repository=repository, contents=contents, files=files)
    return Delta(bases=(accepted,), results=results, contents=None)


def _used_files(index: Index, base: Source) -> set[str]:
    used = set()
    for result in index.files:
        for piece in result.pieces:
            if isinstance(piece.base, BaseTensor):
                used.add(base.tensors[piece.base.tensor].file.path)
            elif isinstance(piece.base, BaseBytes):
                used.add(piece.base.file)
    return used
