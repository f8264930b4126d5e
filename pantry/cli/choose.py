"""pantry choose, fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pantry.selection.fit import Fit

PANEL = "Catalogue"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(choose)
    app.command(rich_help_panel=PANEL)(fit)


def choose(
    need: list[str] = typer.Option([], "--need", help="Requirements, with commas: CODING,coding>=3,context>=8192."),
    prefer: str = typer.Option(
        "", "--prefer", help="Preferences in order: speed, quality, small, newest, context, ..."
    ),
    fallback: str = typer.Option(
        "requirements_download", help="none, requirements, requirements_load, load, requirements_download."
    ),
    model: str | None = typer.Option(None, "--model", help="A model by name."),
    explain: bool = typer.Option(False, "--explain", help="Say why, and what the others lacked."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Choose a model by what you need."""
    from pantry.cli._output import note, print_json
    from pantry.core.paths import find_paths
    from pantry.operations import choose as operations
    from pantry.selection import parse_mode

    paths = find_paths()
    choice = operations.choose(
        ",".join(need),
        prefer=prefer,
        mode=parse_mode(fallback),
        model=model,
        paths=paths,
        loaded=operations.loaded_names(paths),
    )
    if as_json:
        print_json(choice.to_json())
        return
    typer.echo(choice.model)
    for warning in choice.warnings:
        note(f"Note: {warning}.")
    if explain:
        typer.echo(choice.reason)
        for other in choice.runners_up:
            typer.echo(f"  {other.name} ({other.state}): {'; '.join(other.lacked)}")
    if choice.action == "download":
        note(f"It is not here yet: pantry pull {choice.model}")


def fit(
    refs: list[str] = typer.Argument(None, help="Installed models, files, or models of the catalogue."),
    cache: str = typer.Option("f16", "--cache", help="Type of the attention cache: f16, q8_0, q4_0, ..."),
    parallel: int = typer.Option(1, min=1, max=256, help="Answers at the same time."),
    vram: str = typer.Option("", "--vram", help="Graphics memory to count with, like 8GB; detected when left out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what fits this machine: memory, context, layers on a graphics card, expected speed."""
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import note, print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes, parse_bytes
    from pantry.engines.machine import machine_facts
    from pantry.operations.fit import fit_named
    from pantry.selection.fit import what_fits

    paths = find_paths()
    catalogue = open_catalogue(paths)
    machine = machine_facts(paths, vram=parse_bytes(vram) if vram else None)
    if refs:
        fits = fit_named(paths, catalogue, refs, machine, cache_type=cache, parallel=parallel)
    else:
        fits = what_fits(catalogue, machine, cache_type=cache)
    if as_json:
        print_json([each.to_json() for each in fits])
        return
    rows = [row for each in fits for row in _rows(each, whole=bool(refs))]
    columns = ["NAME", "TYPE", "CONTEXT", "RAM", "VRAM", "LAYERS ON GPU", "FITS", "SPEED"]
    print_table(columns, rows, "Nothing in the catalogue fits the free memory of this machine.")
    card = f", {machine.gpu or 'graphics memory'} with {format_bytes(machine.vram)}" if machine.vram else ""
    note(f"Free memory: {format_bytes(machine.free)} of {format_bytes(machine.memory)}{card}.")


def _rows(fit: Fit, *, whole: bool) -> list[list[str]]:
    """Every row of a fit, or only the best."""
    from pantry.core.units import format_bytes, format_rate

    shown = fit.rows if whole else [fit.best] if fit.best else []
    return [
        [
            fit.model,
            row.quantisation,
            str(row.context),
            format_bytes(row.need.ram),
            format_bytes(row.need.vram) if row.need.vram else "-",
            f"{row.need.offloaded_layers} of {fit.layers + 1}" if row.need.vram else "-",
            "best" if row == fit.best else "yes" if row.fits else "no",
            f"{format_rate(row.speed)} tokens/s, {row.speed_class}{', measured' if fit.measured else ''}"
            if row.speed
            else "unknown",
        ]
        for row in shown
    ]
