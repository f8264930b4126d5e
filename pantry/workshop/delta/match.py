"""Is this the base the delta was made for? Answered by digest, before any work."""

from __future__ import annotations

from dataclasses import dataclass

from pantry.core.errors import VerificationError
from pantry.core.progress import Progress
from pantry.flatpack.manifest import Delta, DeltaBase, FileFact
from pantry.workshop.delta.payload import BaseBytes, BaseTensor, Index
from pantry.workshop.delta.sources import Source, SourceFile, first_other


@dataclass(frozen=True)
class MatchedBase:
    """A base that was recognised: its files by the paths the delta knows them by."""

    accepted: DeltaBase
    source: Source
    files: dict[str, SourceFile]
    by_contents: bool
    """Recognised by its tensors alone: the same weights in other files."""


def match_base(source: Source, table: Delta, index: Index, progress: Progress | None = None) -> MatchedBase:
    """Recognise `source` as one of the accepted bases: by its files, else by the contents of its tensors.

    Raises VerificationError that says which file differs and where the right one can be had.
    """
    differences = []
    for accepted in table.bases:
        files = _by_path(source, accepted)
        difference = _first_difference(accepted.files, files, source, progress)
        if difference is None:
            return MatchedBase(accepted, source, files, False)
        differences.append(difference)
    as_bytes = _files_as_bytes(index)
    for accepted in table.bases:
        if accepted.contents is None or not may_fit(source, index):
            continue
        if source.hash_contents(progress) == accepted.contents:
            files = _by_path(source, accepted)
            needed = tuple(fact for fact in accepted.files if fact.path in as_bytes)
            difference = _first_difference(needed, files, source, progress)
            if difference is None:
                return MatchedBase(accepted, source, files, True)
            differences.insert(0, f"the tensors are right, but {difference}")
    accepted, difference = table.bases[0], differences[0]
    where = f" from {accepted.repository}" if accepted.repository else ""
    raise VerificationError(
        f"This is not the base the delta was made for ({accepted.name}): {difference}.",
        hint=f"Get {accepted.name}{where} and give that.",
    )


def may_fit(source: Source, index: Index) -> bool:
    """Whether it has the tensors that the delta starts from; asked before any is read."""
    pieces = (piece for result in index.files for piece in result.pieces)
    bases = [piece.base for piece in pieces if isinstance(piece.base, BaseTensor)]
    found = (source.tensors.get(base.tensor) for base in bases)
    return bool(source.tensors) and all(
        located is not None and located.tensor.dtype == base.dtype for located, base in zip(found, bases, strict=True)
    )


def _by_path(source: Source, accepted: DeltaBase) -> dict[str, SourceFile]:
    """The source's files under the accepted base's paths; a single file may have any name."""
    if len(accepted.files) == 1 and len(source.files) == 1:
        return {accepted.files[0].path: source.files[0]}
    return {fact.path: source.by_path[fact.path] for fact in accepted.files if fact.path in source.by_path}


def _files_as_bytes(index: Index) -> set[str]:
    """Base files that are needed byte for byte, not only for their tensors."""
    pieces = (piece for result in index.files for piece in result.pieces)
    return {piece.base.file for piece in pieces if isinstance(piece.base, BaseBytes)}


def _first_difference(
    wanted: tuple[FileFact, ...], files: dict[str, SourceFile], source: Source, progress: Progress | None
) -> str | None:
    """What is missing or differs; all sizes are compared first, since they cost nothing."""
    for fact in wanted:
        if fact.path not in files:
            return f"{fact.path!r} is missing{' beside it' if source.is_file else ''}"
        if files[fact.path].layout.size != fact.size:
            return f"{_called(fact, files)} has {files[fact.path].layout.size} bytes, {fact.size} expected"
    other = first_other([(files[fact.path], fact.digest) for fact in wanted], progress)
    for fact in wanted:
        if files[fact.path] is other:
            return f"{_called(fact, files)} has digest {other.digest.short}…, {fact.digest.short}… expected"
    return None


def _called(fact: FileFact, files: dict[str, SourceFile]) -> str:
    """The file as the user knows it, and as the delta does."""
    mine = files[fact.path].path
    return repr(mine) if mine == fact.path else f"{mine!r} (in the place of {fact.path!r})"
