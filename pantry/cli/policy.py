"""pantry policy show, set, explain."""

from __future__ import annotations

import typer

PANEL = "Catalogue"


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="The rules of this machine for models.", no_args_is_help=True)
    group.command("show")(show)
    group.command("set")(set_rules)
    group.command("explain")(explain)
    app.add_typer(group, name="policy", rich_help_panel=PANEL)


def show(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Show every rule and its value."""
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import note, print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.policy.file import FILE, load_policy
    from pantry.policy.rules import Policy

    paths = find_paths()
    policy = load_policy(paths, open_catalogue(paths))
    if as_json:
        print_json(policy.model_dump(mode="json"))
        return
    rows = [
        [name, _shown(getattr(policy, name)), field.description or ""] for name, field in Policy.model_fields.items()
    ]
    print_table(["RULE", "VALUE", "MEANING"], rows, "")
    note(f"File: {paths.config / FILE}")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {each:g}" for name, each in value.items()) or "-"
    if isinstance(value, tuple):
        return ", ".join(value) or "-"
    return "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def set_rules(rules: list[str] = typer.Argument(help="rule=value; an empty value takes the rule back.")) -> None:
    """Change rules, like: pantry policy set mode=enforce required_use=commercial minimum_evidence.coding=2"""
    from pantry.cli._catalogue import open_catalogue
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths
    from pantry.policy.file import FILE
    from pantry.policy.file import set_rules as change_rules

    changes = {}
    for rule in rules:
        name, sign, value = rule.partition("=")
        if not sign:
            raise UsageError(f"{rule!r} is not a rule with a value.", hint="Write it like mode=enforce.")
        changes[name] = value
    paths = find_paths()
    change_rules(paths, open_catalogue(paths), changes)
    typer.echo(f"Written to {paths.config / FILE}.")


def explain(
    model: str = typer.Argument(help="An installed model, or one of the catalogue."),
    action: str = typer.Option("", help="pull, load or select; load for an installed model, else pull."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say whether the policy lets a model pass, and why."""
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_json
    from pantry.core.paths import find_paths
    from pantry.operations import policy as operations
    from pantry.policy.decision import parse_action

    paths = find_paths()
    decision = operations.explain(paths, open_catalogue(paths), model, parse_action(action) if action else None)
    if as_json:
        print_json(decision.to_json())
        return
    typer.echo(decision.paragraph())
