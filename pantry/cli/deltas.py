"""pantry delta: make, apply, flatten, inspect, encrypt, decrypt."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pantry.operations.deltas import MadeDelta
    from pantry.workshop.delta.inspect import DeltaReport
    from pantry.workshop.delta.xor_files import Written

PANEL = "Packages"
CHART_WIDTH = 24  # cells of the longest bar


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Publish a fine-tune as its difference from the base.", no_args_is_help=True)
    for command in (make, apply, flatten, inspect, encrypt, decrypt):
        group.command()(command)
    app.add_typer(group, name="delta", rich_help_panel=PANEL)


def make(
    base: str = typer.Argument(help="The base: a model file, a folder, or an installed model."),
    target: str = typer.Argument(help="The fine-tune: a model file, a folder, or an installed model."),
    out: Path = typer.Option(..., "-o", "--output", help="The delta: a name ending in .fpk, or a new folder."),
    adapter: Path | None = typer.Option(None, help="Folder of the LoRA that was merged into the target."),
    find_low_rank: bool = typer.Option(
        False, "--find-low-rank", help="Look for a merged LoRA where its matrices are not at hand; slower."
    ),
    rename: list[str] = typer.Option([], help="TARGET_TENSOR=BASE_TENSOR, where names differ; may be repeated."),
    name: str | None = typer.Option(None, help="Name of the delta, like ada/tuned."),
    version: str = typer.Option("1.0.0", help="Version of the delta."),
    summary: str | None = typer.Option(None, help="One line about the fine-tune."),
    author: list[str] = typer.Option([], help="Author; may be repeated. Your login name when left out."),
    licence: str | None = typer.Option(None, help="Licence of your changes, as SPDX expression."),
    base_name: str | None = typer.Option(None, help="How the base is called where it is published."),
    base_from: str | None = typer.Option(None, help="Where the base can be had."),
    base_licence: str | None = typer.Option(None, help="Licence of the base; the result is under both."),
    base_terms: str | None = typer.Option(None, help="What a person must accept to get the base, in a sentence."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Write the difference of TARGET from BASE. Whoever has BASE can rebuild TARGET bit for bit."""
    import os

    # Two threads already share the work; more inside the matrix library, which reads this once, only wait in loops.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths
    from pantry.operations.deltas import DeltaFacts, make_delta

    renames = dict(pair.partition("=")[::2] for pair in rename)
    if not all(renames.values()) or "" in renames:
        raise UsageError("--rename takes TARGET_TENSOR=BASE_TENSOR.")
    facts = DeltaFacts(name, version, summary, tuple(author), licence, base_name, base_from, base_licence, base_terms)
    with _progress(f"Comparing {Path(target).name}") as progress:
        made = make_delta(
            find_paths(),
            base,
            target,
            out,
            adapter=adapter,
            renames=renames,
            find_low_rank=find_low_rank,
            facts=facts,
            progress=progress,
        )
    _print_made(made, as_json)


def apply(
    base: str = typer.Argument(help="The base: a model file, a folder, or an installed model."),
    deltas: list[Path] = typer.Argument(help="The delta, or all deltas of a chain in any order."),
    out: Path = typer.Option(..., "-o", "--output", help="Where the rebuilt file or folder goes."),
    require_signature: bool = typer.Option(
        False, "--require-signature", help="Refuse a delta that is not signed by someone trusted here."
    ),
) -> None:
    """Rebuild a fine-tune from BASE and its delta. Digests are always checked; an interrupted run is taken up again."""
    from pantry.cli._output import note
    from pantry.core.paths import find_paths
    from pantry.operations.deltas import apply_deltas

    with _progress(f"Rebuilding {out.name}") as progress:
        applied = apply_deltas(find_paths(), base, deltas, out, require_signature=require_signature, progress=progress)
    for sentence in applied.warnings:
        note(f"Warning: {sentence}")
    licence = f", licence {applied.licence}" if applied.licence else ""
    count = len(applied.files)
    typer.echo(f"Rebuilt {applied.out} ({count} file{'s' if count != 1 else ''}, every digest right{licence}).")


def flatten(
    base: str = typer.Argument(help="The base of the chain's first delta."),
    deltas: list[Path] = typer.Argument(help="All deltas of the chain, in any order."),
    out: Path = typer.Option(..., "-o", "--output", help="The new delta: a name ending in .fpk, or a new folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Make one delta out of a chain of deltas."""
    from pantry.core.paths import find_paths
    from pantry.operations.deltas import flatten_deltas

    with _progress(f"Flattening to {out.name}") as progress:
        made = flatten_deltas(find_paths(), base, deltas, out, progress=progress)
    _print_made(made, as_json)


def inspect(
    delta: Path = typer.Argument(help="A delta: a .fpk file or a folder."),
    top: int = typer.Option(12, min=0, help="How many of the most changed tensors to show."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON, with every tensor."),
) -> None:
    """Show what a delta is made for, what it builds, how it is stored, and what changed most."""
    from pantry.cli._output import note, print_json
    from pantry.core.paths import find_paths
    from pantry.operations.deltas import inspect_delta

    report, verdict = inspect_delta(find_paths(), delta)
    if as_json:
        print_json({**_as_object(report), "signature": {"state": verdict.state, "sentence": verdict.sentence}})
        return
    _print_report(report, top)
    note(verdict.sentence)


def encrypt(
    target: Path = typer.Argument(help="A file, or a folder of files."),
    key: Path = typer.Argument(help="The key: a file that the reader must have, such as the original weights."),
    folder: Path = typer.Argument(help="Where the .enc files go."),
    md5: bool = typer.Option(True, "--md5/--no-md5", help="Print MD5 sums too; leaving them out is faster."),
) -> None:
    """Write .enc files as point-alpaca did. This is not protection against an attacker; prefer `delta make`."""
    from pantry.operations.deltas import encrypt_files

    with _progress("Encrypting") as progress:
        written = encrypt_files(target, key, folder, md5=md5, progress=progress)
    _print_sums(written)


def decrypt(
    arguments: list[Path] = typer.Argument(help="The .enc files or folders of them, then KEY, then OUTDIR."),
    checksums: Path | None = typer.Option(None, "--list", help="List of checksums or addresses to check against."),
    md5: bool = typer.Option(True, "--md5/--no-md5", help="Print MD5 sums too; leaving them out is faster."),
) -> None:
    """Rebuild files from point-alpaca's .enc files: ENC… KEY OUTDIR. Prints the sha256 and md5 of each."""
    from pantry.core.errors import UsageError
    from pantry.operations.deltas import decrypt_files

    if len(arguments) < 3:
        raise UsageError("Expected: pantry delta decrypt ENC… KEY OUTDIR.")
    *encrypted, key, folder = arguments
    with _progress("Decrypting") as progress:
        written = decrypt_files(encrypted, key, folder, checksums=checksums, md5=md5, progress=progress)
    _print_sums(written)


def _progress(title: str) -> AbstractContextManager[Any]:
    from contextlib import nullcontext

    from rich.console import Console

    if not Console(stderr=True).is_terminal:
        return nullcontext(None)
    from pantry.cli._progress import bar

    return bar(title)


def _print_made(made: MadeDelta, as_json: bool) -> None:
    from pantry.cli._output import print_json
    from pantry.core.units import format_bytes

    report = made.report
    if as_json:
        print_json({"path": str(made.path), "bytes": made.size, **_as_object(report)})
        return
    share = f" ({100 * made.size / report.size:.1f} % of {format_bytes(report.size)})" if report.size else ""
    typer.echo(f"Wrote {made.path}: {format_bytes(made.size)}{share}.")


def _print_sums(written: list[Written]) -> None:
    for file in written:
        for checksum in filter(None, (file.sha256, file.md5)):
            typer.echo(f"{checksum}  {file.path}")


def _print_report(report: DeltaReport, top: int) -> None:
    from pantry.cli._output import print_facts, print_table
    from pantry.core.units import format_bytes

    manifest = report.manifest
    table = manifest.delta
    if table is None:
        return
    print_facts(
        {
            "name": f"{manifest.name} {manifest.version}",
            "about": manifest.summary,
            "licence": manifest.licence.weights,
            "base": table.bases[0].name,
            "base from": table.bases[0].repository,
            "base licence": report.base_terms.licence,
            "base terms": report.base_terms.terms,
            "size": f"{format_bytes(report.stored)} for {format_bytes(report.size)}",
        }
    )
    facts = [(f"base ({base.name})", fact) for base in table.bases for fact in base.files]
    facts += [("result", fact) for fact in table.results]
    typer.echo()
    print_table(
        ["FILE", "OF", "SIZE", "DIGEST"],
        [[fact.path, of, format_bytes(fact.size), fact.digest.short] for of, fact in facts],
        "",
    )
    typer.echo()
    rows = [
        [total.op, str(total.pieces), format_bytes(total.size), format_bytes(total.stored)] for total in report.totals()
    ]
    print_table(["OPERATION", "PIECES", "SIZE", "STORED"], rows, "Nothing is stored.")
    _print_changes(report, top)


def _print_changes(report: DeltaReport, top: int) -> None:
    from pantry.cli._output import print_table
    from pantry.core.units import format_bytes
    from pantry.workshop.delta.inspect import bars

    changed = report.most_changed(top)
    if not changed:
        return
    typer.echo()
    shown = bars([piece.change or 0.0 for piece in changed], CHART_WIDTH)
    rows = [
        [
            piece.name or "",
            piece.op,
            format_bytes(piece.size),
            f"{100 * piece.stored / piece.size:.1f} %",
            f"{100 * (piece.change or 0.0):.2f} %",
            bar,
        ]
        for piece, bar in zip(changed, shown, strict=True)
    ]
    print_table(["CHANGED MOST", "OPERATION", "SIZE", "STORED", "CHANGE", ""], rows, "")


def _as_object(report: DeltaReport) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "manifest": report.manifest.model_dump(mode="json", exclude_none=True),
        "base_terms": report.base_terms.model_dump(exclude_none=True),
        "size": report.size,
        "stored": report.stored,
        "pieces": [asdict(piece) for piece in report.pieces],
    }
