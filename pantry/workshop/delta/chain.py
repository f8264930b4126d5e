"""Deltas on deltas: finds the order in which they apply, and rebuilds step by step."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from pantry.core.errors import UsageError, VerificationError
from pantry.workshop.delta.apply import apply_delta
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.match import match_base
from pantry.workshop.delta.room import room_beside
from pantry.workshop.delta.sources import Progress, Source


def in_order_of_use(base: Source, deltas: Sequence[DeltaFolder]) -> list[DeltaFolder]:
    """The deltas so that each one's base is what the one before it builds, the first one's `base`.

    Raises VerificationError when none fits the base, UsageError when the rest does not form one chain.
    """
    first = _first(base, deltas)
    ordered, rest = [first], [delta for delta in deltas if delta is not first]
    while rest:
        following = [delta for delta in rest if _builds_base_of(ordered[-1], delta)]
        if len(following) != 1:
            names = ", ".join(delta.manifest.name for delta in rest)
            raise UsageError(
                f"After {ordered[-1].manifest.name}, {len(following)} of the other deltas fit ({names}); one must.",
                hint="Give the deltas of one chain, each made on the result of the one before.",
            )
        ordered.append(following[0])
        rest.remove(following[0])
    return ordered


def _first(base: Source, deltas: Sequence[DeltaFolder]) -> DeltaFolder:
    """The delta whose base is there. Raises the mismatch of the first delta when none fits."""
    mismatches = []
    for delta in deltas:
        try:
            match_base(base, delta.table, delta.payload.index)
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

    Raises as `apply_delta` and `in_order_of_use`.
    """
    ordered = in_order_of_use(base, deltas)
    if len(ordered) == 1:
        apply_delta(base, ordered[0], out, progress)
        return
    with room_beside(out) as room:
        between: Path | None = None
        for number, delta in enumerate(ordered):
            last = number == len(ordered) - 1
            step = out if last else room / f"step{number}"
            if not last:
                step.mkdir()
            source = base if between is None else Source.open(between)
            try:
                apply_delta(source, delta, step, progress)
            finally:
                if between is not None:
                    source.close()
                    shutil.rmtree(between)
            between = step
