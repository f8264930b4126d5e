"""pantry open: what a pantry:// link asks for, shown and confirmed."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command("open", rich_help_panel="Apps")(open_)


def open_(
    link: str = typer.Argument(help="A link like pantry://pull/qwen3-0.6b?repo=https://models.example."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do it without asking."),
) -> None:
    """Show what a link would do, ask, and do it."""
    from pantry.client.connection import ServiceConnection
    from pantry.core.paths import find_paths
    from pantry.operations.links import parse_link, repository_of
    from pantry.operations.pull import Options, pull
    from pantry.operations.service import ensure_service

    paths, parsed = find_paths(), parse_link(link)
    repository = repository_of(paths, parsed)
    typer.echo(f"This link wants to {parsed.describe()}.")
    if not yes and not typer.confirm("Do it?"):
        typer.echo("Nothing was done.")
        return
    name = str(parsed.model)
    if parsed.action == "pull":
        pulled = pull(paths, name, Options(repository=repository))
        typer.echo(f"{pulled.package.name} {pulled.package.version} is installed.")
        return
    ensure_service(paths)
    ServiceConnection(paths).post("/admin/load", {"model": name})
    typer.echo(f"{name} is loaded.")
    if parsed.prompt:
        from pantry.client import Client

        for text in Client(paths=paths).stream(parsed.prompt, model=name):
            typer.echo(text, nl=False)
        typer.echo()
