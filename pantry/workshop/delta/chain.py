"""Deltas on deltas: finds the order in which they apply, and rebuilds step by step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from pantry.core.errors import UsageError, VerificationError
from pantry.core.progress import Progress
from pantry.workshop.delta.apply import (
    bytes_to_match,
    final_place,
    folder_to_work_in,
    is_whole,
    move_into_place,
    rebuilt,
    taken_up,
)
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.match import match_base
from pantry.workshop.delta.sources import Source, part_of


def in_order_of_use(base: Source, deltas: Sequence[DeltaFolder], progress: Progress | None = None) -> list[DeltaFolder]:
    """The deltas so that each one's base is what the one before it builds, the first one's `base`.

    Raises VerificationError when none fits the base, UsageError when the rest does not form one chain.
    """
    first = _first(base, deltas, progress)
    ordered, rest = [first], [delta for delta in deltas if delta is not first]
    while rest:
        following = [delta for delta in rest if _builds_base_of(ordered[-1], delta)]
        if len(following) != 1:
            raise _no_chain(ordered[-1], following or rest, fit=bool(following))
        ordered.append(following[0])
        rest.remove(following[0])
    return ordered


def _no_chain(last: DeltaFolder, others: Sequence[DeltaFolder], *, fit: bool) -> UsageError:
    names = ", ".join(delta.manifest.name for delta in others)
    both = f"{names} are each made on the result of {last.manifest.name}; a chain goes one way."
    none = f"What {last.manifest.name} builds is the base of none of the others ({names})."
    return UsageError(both if fit else none, hint="Give the deltas of one chain, each made on the result of another.")


def _first(base: Source, deltas: Sequence[DeltaFolder], progress: Progress | None) -> DeltaFolder:
    """The delta whose base is there. Raises the mismatch of the first delta when none fits."""
    mismatches = []
    for delta in deltas:
        try:
            match_base(base, delta.table, delta.payload.index, progress)
        except VerificationError as error:
            mismatches.append(error)
        else:
            return delta
    raise mismatches[0]


def _builds_base_of(before: DeltaFolder, after: DeltaFolder) -> bool:
    built = {fact.digest for fact in before.table.results}
    return any({fact.digest for fact in accepted.files} <= built for accepted in after.table.bases if accepted.files)


def apply_chain(base: Source, deltas: Sequence[DeltaFolder], out: Path, progress: Progress | None = None) -> None:
    """Rebuild through all deltas; every step is verified. What lies between is deleted as soon as it is used.

    An interrupted run is taken up at the step and the tensor it had reached. Raises as `apply_delta` and
    `in_order_of_use`.
    """
    read = max(bytes_to_match(delta) for delta in deltas)
    total = read + sum(delta.payload.index.size for delta in deltas)
    ordered = in_order_of_use(base, deltas, part_of(progress, 0, total))
    final = final_place(out, ordered[-1])
    folder = folder_to_work_in(final)
    first = _step_to_begin_with(ordered, folder)
    before, source, stage, done = ExitStack(), base, final, read
    for number, delta in enumerate(ordered):
        step = ExitStack()
        with before:
            if number <= first and first > 0:
                stage = step.enter_context(taken_up(delta, folder))
            else:
                matched = match_base(source, delta.table, delta.payload.index)
                stage = step.enter_context(rebuilt(matched, delta, folder, part_of(progress, done, total)))
        done += delta.payload.index.size
        if delta is not ordered[-1] and number >= first:
            source = step.enter_context(_result(delta, stage))
        before = step
    with before:
        move_into_place(stage, final, ordered[-1])


def _result(delta: DeltaFolder, stage: Path) -> Source:
    """What was rebuilt, as the base of the next step; its digests were checked just now."""
    files = [(fact.path, stage / fact.path, fact.digest) for fact in delta.table.results]
    return Source.gather(delta.manifest.name, files, is_file=False)


def _step_to_begin_with(ordered: Sequence[DeltaFolder], folder: Path) -> int:
    """The last step before the final one whose result an interrupted run left whole; else the first."""
    return next((number for number in range(len(ordered) - 2, 0, -1) if is_whole(ordered[number], folder)), 0)
