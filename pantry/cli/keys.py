"""pantry key new, list, trust, untrust, export."""

from __future__ import annotations

import datetime
from pathlib import Path

import typer


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="Keys to sign flatpacks with, and whom to trust.", no_args_is_help=True)
    for name, command in (
        ("new", new),
        ("list", list_keys),
        ("trust", trust),
        ("untrust", untrust),
        ("export", export),
    ):
        group.command(name)(command)
    app.add_typer(group, name="key", rich_help_panel="Flatpacks")


def new(
    name: str = typer.Argument(help="Name for the key."),
    kind: str = typer.Option("both", "--type", help="both (P-256 and RSA-4096), p256, p384 or rsa4096."),
    passphrase_stdin: bool = typer.Option(False, "--passphrase-stdin", help="Read the passphrase from standard input."),
    no_passphrase: bool = typer.Option(False, "--no-passphrase", help="Do not lock the key."),
) -> None:
    """Make a key (one name, two keys: P-256 and RSA-4096) and trust it here."""
    from pantry.cli._output import note
    from pantry.cli._passphrase import new_passphrase
    from pantry.core.paths import find_paths
    from pantry.operations.keys import new_identity

    identity = new_identity(find_paths(), name, kind, None if no_passphrase else new_passphrase(passphrase_stdin))
    for key in identity.keys:
        typer.echo(f"{key.type}   {key.id}")
    note(f"Hand out its public half: pantry key export {name} > {name}.pem")


def list_keys(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List your keys and the keys you trust."""
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.operations.keys import key_rows

    rows = key_rows(find_paths())
    if as_json:
        print_json(
            [
                {
                    "id": row.id,
                    "type": row.type,
                    "name": row.name,
                    "own": row.own,
                    "trusted": [rule.model_dump(mode="json", exclude={"keys"}) for rule in row.rules],
                }
                for row in rows
            ]
        )
        return
    table = [
        [
            row.name or "-",
            row.id[:12],
            row.type,
            "yes" if row.own else "no",
            ", ".join(rule.pattern for rule in row.rules) or "nothing",
            ", ".join(str(rule.not_after) for rule in row.rules if rule.not_after) or "-",
        ]
        for row in rows
    ]
    columns = ["NAME", "ID", "TYPE", "YOURS", "TRUSTED FOR", "UNTIL"]
    print_table(columns, table, "No keys. `pantry key new NAME` makes one.")


def trust(
    file: Path = typer.Argument(help="Public key, as PEM file."),
    pattern: str = typer.Option("*", "--for", help="Names of flatpacks it may sign, like 'ada/*'."),
    name: str | None = typer.Option(None, help="Whose key it is; the file's name when left out."),
    not_before: datetime.datetime | None = typer.Option(None, formats=["%Y-%m-%d"], help="Trusted from this day on."),
    not_after: datetime.datetime | None = typer.Option(None, formats=["%Y-%m-%d"], help="Trusted up to this day."),
    keep: bool = typer.Option(False, "--keep", help="Keep what the key is trusted for already."),
) -> None:
    """Trust a key to sign flatpacks of these names, and of no others unless you say --keep."""
    from pantry.cli._output import note
    from pantry.core.paths import find_paths
    from pantry.operations.keys import trust as trust_file

    days = [day.date() if day else None for day in (not_before, not_after)]
    rule, replaced = trust_file(find_paths(), file, pattern, name, *days, keep=keep)
    typer.echo(f"Trusted {rule.name} ({', '.join(key[:12] for key in rule.keys)}) for {rule.pattern}.")
    if replaced:
        before = ", ".join(dict.fromkeys(old.pattern for old in replaced))
        note(f"That takes the place of: {before}. To have both: --keep")


def untrust(key: str = typer.Argument(help="Id of the key (its first 6 digits or more), or a name.")) -> None:
    """Trust a key no longer."""
    from pantry.core.paths import find_paths
    from pantry.operations.keys import untrust as untrust_key

    for gone in untrust_key(find_paths(), key):
        typer.echo(f"No longer trusted: {gone[:12]}")


def export(key: str = typer.Argument(help="Id of the key, or a name.")) -> None:
    """Print public keys as PEM, to hand to others."""
    from pantry.core.paths import find_paths
    from pantry.operations.keys import export as export_key

    typer.echo(export_key(find_paths(), key), nl=False)
