"""pantry dataset new, check, export, import."""

from __future__ import annotations

from pathlib import Path

import typer

CARD = Path("DATASET.md")


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Dataset cards: DATASET.md.", no_args_is_help=True)
    for name, command in (("new", new), ("check", check), ("export", export), ("import", import_)):
        group.command(name)(command)
    app.add_typer(group, name="dataset", rich_help_panel="Flatpacks")


def new(file: Path = typer.Argument(CARD, help="Card to write, or a folder.")) -> None:
    """Write a dataset card to fill in."""
    from pantry.operations.datasets import new_card

    typer.echo(new_card(file))


def check(
    file: Path = typer.Argument(CARD, help="The card, or a folder."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Name every field that is missing or still in brackets, with its line. Exit code 8 if there is one."""
    from pantry.cli._output import print_json
    from pantry.core.errors import BadFileError
    from pantry.operations.datasets import card_faults, card_file

    file = card_file(file)
    faults = card_faults(file)
    if as_json:
        print_json([{"line": fault.line, "message": fault.message} for fault in faults])
    else:
        for fault in faults:
            typer.echo(f"{file}:{fault.line}: {fault.message}")
    if faults:
        raise typer.Exit(BadFileError.exit_code)
    if not as_json:
        typer.echo(f"{file} is complete.")


def export(
    file: Path = typer.Argument(CARD, help="The card, or a folder."),
    form: str = typer.Option("croissant", "--to", help="croissant (JSON-LD) or huggingface (README.md)."),
    out: Path | None = typer.Option(None, "--output", "-o", help="File to write; standard output when left out."),
) -> None:
    """Write the card in another vocabulary."""
    from pantry.operations.datasets import export_card, write_export

    if out is None:
        typer.echo(export_card(file, form), nl=False)
    else:
        write_export(file, form, out)
        typer.echo(out)


def import_(
    file: Path = typer.Argument(help="A Hugging Face dataset card (README.md)."),
    out: Path = typer.Option(CARD, "--output", "-o", help="Card to write."),
) -> None:
    """Make a card from a Hugging Face README.md and name what is left to fill in."""
    from pantry.operations.datasets import import_card

    for fault in import_card(file, out):
        typer.echo(f"{out}:{fault.line}: {fault.message}")
    typer.echo(out)
