"""pantry request: what apps ask for, and the user's answer."""

from __future__ import annotations

import typer

requests = typer.Typer(help="What apps ask for, and your answer.", no_args_is_help=True)
REQUEST = typer.Argument(help="Id of the request, or its first characters.")


def register(app: typer.Typer) -> None:
    app.add_typer(requests, name="request", rich_help_panel="Apps")


@requests.command("list")
def list_(
    everything: bool = typer.Option(False, "--all", help="Also those that were answered."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List what waits for an answer."""
    from pantry.access.requests import list_requests
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths

    found = list_requests(find_paths(), everything=everything)
    if as_json:
        print_json([{**request.__dict__, "description": line} for request, line in found])
        return
    rows = [
        [
            request.id[:8],
            line + (f" ({request.reason})" if request.reason else ""),
            _state(request.state, request.outcome),
        ]
        for request, line in found
    ]
    print_table(["ID", "REQUEST", "STATE"], rows, "Nothing waits for an answer.")


@requests.command()
def approve(
    request: str = REQUEST,
    always: bool = typer.Option(False, "--always", help="Also let the app do this by itself from now on."),
    models: list[str] | None = typer.Option(
        None, "--models", help="Only models with names like this; may be repeated."
    ),
    days: float | None = typer.Option(None, "--days", help="For so many days; for good when left out."),
    tokens: int | None = typer.Option(None, "--tokens", min=0, help="Tokens the app may use a day."),
) -> None:
    """Say yes. A running service does it at once, else the next one that starts."""
    from pantry.access.requests import Limits, decide_request
    from pantry.core.paths import find_paths

    limits = Limits(always, tuple(models or ()), days, tokens)
    _, line = decide_request(find_paths(), request, limits)
    typer.echo(f"Approved: {line}.")


@requests.command()
def refuse(request: str = REQUEST) -> None:
    """Say no."""
    from pantry.access.requests import decide_request
    from pantry.core.paths import find_paths

    _, line = decide_request(find_paths(), request, None)
    typer.echo(f"Refused: {line}.")


def _state(state: str, outcome: str) -> str:
    return f"{state}: {outcome}" if outcome else state
