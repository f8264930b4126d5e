"""pantry score add, list, rm."""

from __future__ import annotations

from pathlib import Path

import typer

PANEL = "Catalogue"


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Capability scores measured on this machine.", no_args_is_help=True)
    group.command("add")(add)
    group.command("list")(list_scores)
    group.command("rm")(rm)
    app.add_typer(group, name="score", rich_help_panel=PANEL)


def add(file: Path = typer.Argument(help="A file of scores (TOML or JSON), as docs/catalogue.md shows.")) -> None:
    """Take in scores that you measured here; the policy and choices then go by them."""
    from pantry.cli._catalogue import open_catalogue
    from pantry.core.paths import find_paths
    from pantry.evaluation.scores import add_scores

    paths = find_paths()
    for each in add_scores(paths, open_catalogue(paths), file):
        typer.echo(f"{each.model.short}  {each.capability} {each.score:g}  ({each.date}, {each.engine}, {each.task})")


def list_scores(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the scores that are kept."""
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.evaluation import scores as operations
    from pantry.store.models import Store

    with Store.open(find_paths()) as store:
        found = operations.list_scores(store.database)
        names = {model.digest: str(model.name) for model in store.list()}
    if as_json:
        print_json([each.__dict__ | {"model": str(each.model), "name": names.get(each.model)} for each in found])
        return
    rows = [
        [names.get(each.model, each.model.short), each.capability, f"{each.score:g}", each.date, each.engine, each.task]
        for each in found
    ]
    print_table(["MODEL", "CAPABILITY", "SCORE", "DATE", "ENGINE", "TASK"], rows, "No score is kept.")


def rm(model: str = typer.Argument(help="The name or digest of a model.")) -> None:
    """Forget the scores of a model."""
    from pantry.core.paths import find_paths
    from pantry.evaluation.scores import remove_scores

    count = remove_scores(find_paths(), model)
    typer.echo(f"Removed {count} score{'s' if count > 1 else ''} of {model}.")
