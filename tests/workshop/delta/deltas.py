"""Makes and applies deltas between folders, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pantry.core.progress import Progress
from pantry.flatpack.manifest import Manifest, write_manifest
from pantry.workshop.delta.adapter import LoraAdapter
from pantry.workshop.delta.apply import apply_delta
from pantry.workshop.delta.folder import DeltaFolder, delta_table
from pantry.workshop.delta.make import write_payload
from pantry.workshop.delta.match import MatchedBase
from pantry.workshop.delta.payload import PAYLOAD_NAME, BaseTerms, Index
from pantry.workshop.delta.plan import Finder, Planner
from pantry.workshop.delta.sources import Source


def make(
    base: Path,
    target: Path,
    out: Path,
    *,
    adapter: Path | None = None,
    renames: Mapping[str, str] | None = None,
    find: Finder | None = None,
    name: str = "tuned",
) -> Index:
    """Write the delta folder `out`."""
    out.mkdir(parents=True)
    lora = LoraAdapter(adapter) if adapter else None
    with Source.open(base) as old, Source.open(target) as new:
        planner = Planner(old, lora, renames or {}, old.is_file and new.is_file, find)
        index = write_payload(planner, new, out / PAYLOAD_NAME, base=BaseTerms())
        table = delta_table(index, old, name="the-base", repository="https://example.org/base")
    if lora:
        lora.close()
    facts = {"kind": "delta", "name": name, "version": "1.0.0", "summary": "A test.", "authors": ["Ada"]}
    write_manifest(Manifest.model_validate({**facts, "delta": table}), out)
    return index


def apply(base: Path, delta: Path, out: Path, progress: Progress | None = None) -> MatchedBase:
    """Apply the delta folder."""
    with Source.open(base) as source, DeltaFolder(delta) as opened:
        return apply_delta(source, opened, out, progress)


def operations(index: Index) -> dict[str, str]:
    """Operation by tensor; several pieces of one tensor joined by +."""
    found: dict[str, str] = {}
    for file in index.files:
        for piece in file.pieces:
            if piece.name is not None:
                found[piece.name] = f"{found[piece.name]}+{piece.op}" if piece.name in found else piece.op
    return found
