"""pantry app: the programs that use the service, and what they may do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from pantry.core.permissions import Grant, Permission

apps = typer.Typer(help="Programs that use the service, and what they may do.", no_args_is_help=True)
APP = typer.Argument(help="Name or id of the app.")
PERMISSIONS = typer.Argument(help="Permissions, like session or request-load.")
MODELS = typer.Option(None, "--models", help="Only for models with names like this; may be repeated.")
DAYS = typer.Option(None, "--days", help="For so many days; for good when left out.")


def register(app: typer.Typer) -> None:
    app.add_typer(apps, name="app", rich_help_panel="Apps")


@apps.command("list")
def list_(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the apps with their permissions."""
    from pantry.access.apps import list_apps
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths

    found = list_apps(find_paths())
    if as_json:
        print_json([app.to_json() for app in found])
        return
    rows = [[app.name, app.id[:8], ", ".join(app.grants) or "none", str(app.used_today)] for app in found]
    print_table(["APP", "ID", "MAY", "TOKENS TODAY"], rows, "No app has registered yet.")


@apps.command()
def show(name: str = APP) -> None:
    """Show one app: permissions with their limits, tokens used today."""
    from pantry.access.apps import show_app
    from pantry.cli._output import print_facts
    from pantry.core.paths import find_paths

    app = show_app(find_paths(), name)
    grants = {f"may {name}": _words(grant) for name, grant in app.grants.items()}
    limit = f" of {app.tokens_per_day}" if app.tokens_per_day is not None else ""
    facts = {
        "app": app.name,
        "id": app.id,
        "origin": app.origin,
        "since": app.created_at,
        "last seen": app.last_seen or "never",
    }
    print_facts({**facts, "tokens today": f"{app.used_today}{limit}", **grants})


@apps.command()
def add(
    name: str = typer.Argument(help="What to call it."),
    allow: list[str] = typer.Option([], "--allow", help="A permission to give at once; may be repeated."),
    origin: str | None = typer.Option(None, help="Web origin, for a page that uses window.ai."),
    models: list[str] | None = MODELS,
    days: float | None = DAYS,
) -> None:
    """Add an app by hand and print its key. The key is shown this once."""
    from pantry.access.apps import add_app
    from pantry.cli._output import note
    from pantry.core.paths import find_paths

    app, key = add_app(find_paths(), name, origin, _parsed(allow), _grant(models, days))
    note(f"Added {app.name} ({app.id}). Its key, shown this once:")
    typer.echo(key)


@apps.command()
def allow(
    name: str = APP,
    permissions: list[str] = PERMISSIONS,
    models: list[str] | None = MODELS,
    days: float | None = DAYS,
) -> None:
    """Give an app permissions."""
    from pantry.access.apps import grant_to_app
    from pantry.core.paths import find_paths

    app = grant_to_app(find_paths(), name, _parsed(permissions), _grant(models, days))
    typer.echo(f"{app.name} may now: {', '.join(app.grants)}.")


@apps.command()
def deny(name: str = APP, permissions: list[str] = PERMISSIONS) -> None:
    """Take permissions away from an app."""
    from pantry.access.apps import withdraw_from_app
    from pantry.core.paths import find_paths

    app = withdraw_from_app(find_paths(), name, _parsed(permissions))
    typer.echo(f"{app.name} may now: {', '.join(app.grants) or 'nothing'}.")


@apps.command()
def limit(
    name: str = APP, tokens: int | None = typer.Argument(None, min=0, help="Tokens a day; no limit when left out.")
) -> None:
    """Limit how many tokens an app may use a day."""
    from pantry.access.apps import limit_app
    from pantry.core.paths import find_paths

    app = limit_app(find_paths(), name, tokens)
    typer.echo(f"{app.name}: {'no limit' if tokens is None else f'{tokens} tokens a day'}.")


@apps.command()
def key(name: str = APP) -> None:
    """Make a new key for an app and print it; the old one stops working."""
    from pantry.access.apps import new_key
    from pantry.core.paths import find_paths

    typer.echo(new_key(find_paths(), name)[1])


@apps.command()
def remove(
    name: str | None = typer.Argument(None, help="Name or id of the app."),
    unapproved: bool = typer.Option(False, "--unapproved", help="All apps that have no permission."),
) -> None:
    """Forget an app: its key stops working, its sessions and requests are deleted."""
    from pantry.access.apps import remove_app, remove_unapproved_apps
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths

    if (name is None) is not unapproved:
        raise UsageError("Name one app, or use --unapproved.")
    if name is None:
        typer.echo(f"Removed {remove_unapproved_apps(find_paths())} apps.")
    else:
        typer.echo(f"Removed {remove_app(find_paths(), name).name}.")


def _parsed(names: list[str]) -> list[Permission]:
    from pantry.core.permissions import Permission

    return [Permission.parse(name) for name in names]


def _grant(models: list[str] | None, days: float | None) -> Grant:
    from pantry.access.apps import expiry
    from pantry.core.permissions import Grant

    return Grant(tuple(models or ("*",)), expiry(days))


def _words(grant: Grant) -> str:
    import datetime

    models = "any model" if "*" in grant.models else f"models {', '.join(grant.models)}"
    if grant.expires_at is None:
        return models
    return f"{models}, until {datetime.datetime.fromtimestamp(grant.expires_at).astimezone():%Y-%m-%d %H:%M}"
