"""pantry remote: models at a provider."""

from __future__ import annotations

import typer

remotes = typer.Typer(help="Models at a provider: any server that speaks the OpenAI dialect.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(remotes, name="remote", rich_help_panel="Models")


@remotes.command()
def add(
    name: str = typer.Argument(help="What to call it here."),
    url: str = typer.Argument(help="The provider's address, like https://api.example/v1."),
    model: str = typer.Argument(help="What the provider calls it."),
    key_env: str | None = typer.Option(None, "--key-env", help="Variable of the service that holds the key."),
    key: bool = typer.Option(False, "--key", help="Ask for the key and keep it in the system keyring."),
    complete: bool = typer.Option(False, "--complete", help="It continues texts and knows no conversations."),
    context: int | None = typer.Option(None, min=1, help="Tokens it takes in at once."),
) -> None:
    """Add a model that runs at a provider. What you and your apps ask it leaves this machine."""
    import sys

    from pantry.cli._passphrase import read_line
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths
    from pantry.core.refs import ModelName
    from pantry.engines.provider import Provider
    from pantry.operations.remotes import add_remote, keep_provider_key

    if key and key_env:
        raise UsageError("Give --key or --key-env, not both.")
    parsed = ModelName.parse(name)
    place = f"env:{key_env}" if key_env else f"keyring:{parsed}" if key else ""
    provider, paths = Provider(url, model, place), find_paths()
    if key:
        typed = typer.prompt("Key", hide_input=True, err=True) if sys.stdin.isatty() else read_line().decode()
        if not typed.strip():
            raise UsageError("The key is empty.")
        keep_provider_key(paths, str(parsed), typed.strip())
    added = add_remote(paths, parsed, provider, chat=not complete, context=context)
    typer.echo(f"{added.name} answers at {provider.host}. What it is asked leaves this machine.")
