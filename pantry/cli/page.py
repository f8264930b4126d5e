"""pantry page: the owner's page in the browser."""

from __future__ import annotations

import typer


def register(app: typer.Typer) -> None:
    app.command("page", rich_help_panel="Apps")(page)


def page(
    link: bool = typer.Option(False, "--link", help="Print the link, which works once and for 2 minutes."),
) -> None:
    """Open the page where you answer what apps ask, and see apps and loaded models."""
    import webbrowser

    from pantry.core.paths import find_paths
    from pantry.operations.service import page_link

    address = page_link(find_paths())
    if link:
        typer.echo(address)
        return
    if webbrowser.open(address):
        typer.echo("The page is open in your browser.")
    else:
        typer.echo(f"No browser opened here. Open this link within 2 minutes; it works once:\n{address}")
