"""pantry doctor."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Service")(doctor)


def doctor(
    measure: bool = typer.Option(True, help="Measure the engines with the starter model (some seconds)."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say what this machine has, what is slow or missing, and the next step. Exit code 1 when something is bad."""
    from dataclasses import asdict

    from pantry.cli._output import print_json
    from pantry.core.paths import find_paths
    from pantry.core.settings import load_settings
    from pantry.operations.doctor import examine

    marks = {"good": "ok  ", "note": "note", "bad": "BAD "}
    paths = find_paths()
    findings = []
    for finding in examine(paths, load_settings(paths), measure=measure):
        findings.append(finding)
        if not as_json:
            typer.echo(f"{marks[finding.level]}  {finding.name.ljust(19)} {finding.found}")
            if finding.next_step:
                typer.echo(f"{' ' * 26}{finding.next_step}")
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.level == "bad" for finding in findings):
        raise typer.Exit(1)
