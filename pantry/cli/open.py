"""pantry open: what a pantry:// link asks for, shown and confirmed; and having the desktop open such links."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command("open", rich_help_panel="Apps")(open_)


def open_(
    link: str | None = typer.Argument(None, help="A link like pantry://pull/qwen3-0.6b?repo=https://models.example."),
    yes: bool = typer.Option(False, "--yes", "-y", help="Do it without asking."),
    pause: bool = typer.Option(False, "--pause", help="Wait for Enter at the end, so that a window stays open."),
    register: bool = typer.Option(False, "--register", help="Have this desktop open pantry:// links with Pantry."),
    unregister: bool = typer.Option(False, "--unregister", help="Take that back."),
) -> None:
    """Show what a link would do, ask, and do it."""
    from pantry.core.errors import PantryError, UsageError

    if (link is not None) + register + unregister != 1:
        raise UsageError("Give one link, or --register, or --unregister.")
    if link is None:
        _change_desktop(register)
    elif not pause:
        _follow(link, yes)
    else:
        code = 0
        try:
            _follow(link, yes)
        except PantryError as error:
            typer.echo(f"Error: {error}", err=True)
            code = error.exit_code
        typer.prompt("Press Enter to close", default="", show_default=False)
        raise typer.Exit(code)


def _change_desktop(register: bool) -> None:
    from pantry.operations.links import register_links, unregister_links

    if register:
        typer.echo(register_links())
    else:
        typer.echo("pantry:// links are not opened any more." if unregister_links() else "They were not registered.")


def _follow(link: str, yes: bool) -> None:
    from pantry.client.connection import ServiceConnection
    from pantry.core.paths import find_paths
    from pantry.core.units import printable
    from pantry.operations.links import parse_link, repository_of
    from pantry.operations.pull import Options, pull
    from pantry.operations.service import ensure_service

    paths, parsed = find_paths(), parse_link(link)
    repository = repository_of(paths, parsed)
    typer.echo(f"This link wants to {printable(parsed.describe())}.")
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
        from pantry.cli._output import write_answer
        from pantry.client import Client

        for text in Client(paths=paths).stream(parsed.prompt, model=name):
            write_answer(text)
        typer.echo()
