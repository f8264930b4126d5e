"""pantry licence list, show, check."""

from __future__ import annotations

import typer

PANEL = "Catalogue"


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="What licences allow.", no_args_is_help=True)
    group.command("list")(list_licences)
    group.command("show")(show)
    group.command("check")(check)
    app.add_typer(group, name="licence", rich_help_panel=PANEL)


def list_licences(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the licences the catalogue knows: yes, no, if (under conditions), or ? (unknown)."""
    from pantry.catalogue.rights import Circumstances, judge_licence, parse_use
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths

    licences = sorted(open_catalogue(find_paths()).licences.values(), key=lambda licence: licence.id)
    if as_json:
        print_json([licence.model_dump(mode="json", exclude_none=True, by_alias=True) for licence in licences])
        return
    words = {"allowed": "yes", "conditional": "if", "refused": "no", "unknown": "?"}
    rows = [
        [
            each.id,
            each.kind,
            *(
                words[judge_licence(each, parse_use(use), Circumstances(), multimodal=True).verdict]
                for use in ("commercial", "redistribute", "train-on-outputs")
            ),
        ]
        for each in licences
    ]
    print_table(["LICENCE", "KIND", "COMMERCIAL", "REDISTRIBUTE", "TRAIN ON OUTPUTS"], rows, "No licences.")


def show(
    licence: str = typer.Argument(help="An id, SPDX id or tag, like llama-3.3."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what a licence allows, and under which conditions."""
    from pantry.catalogue.rights import NOT_LEGAL_ADVICE, USES, Circumstances, judge_licence
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_facts, print_json
    from pantry.core.paths import find_paths

    catalogue = open_catalogue(find_paths())
    found = catalogue.licence(licence)
    if as_json:
        print_json(found.model_dump(mode="json", exclude_none=True, by_alias=True))
        return
    bases = {"text-read": "the licence text", "document": "a document about it", "secondary": "pages on the web"}
    print_facts(
        {
            "name": found.name,
            "id": found.id,
            "SPDX": found.spdx,
            "kind": found.kind,
            "since": found.since,
            "OSI approved": {True: "yes", False: "no", None: None}[found.osi_approved],
            "text": found.url,
            "rests on": bases.get(found.basis, "common knowledge"),
            "sources": ", ".join(found.sources),
            "checked": found.checked,
            "notes": found.notes,
        }
    )
    words = {"allowed": "allowed", "conditional": "allowed if you", "refused": "not allowed", "unknown": "unknown"}
    for use in USES:
        finding = judge_licence(found, use, Circumstances(), multimodal=True)
        typer.echo(f"\n{use}: {words[finding.verdict]}")
        for condition in finding.conditions:
            typer.echo(f"  - {condition}")
    typer.echo()
    typer.echo(NOT_LEGAL_ADVICE)


def check(
    ref: str = typer.Argument(help="A model, or a licence expression like 'MIT OR Apache-2.0'."),
    use: str = typer.Option("commercial", "--use", help="Uses, with commas: commercial,redistribute,train-on-outputs."),
    users: float | None = typer.Option(None, help="Your monthly users."),
    revenue: float | None = typer.Option(None, help="Your yearly revenue in USD."),
    region: str | None = typer.Option(None, help="Where you are based: EU, or a two-letter country code."),
    strict_data: bool = typer.Option(False, "--strict-data", help="Count data without a known licence as unknown."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Ask whether a model or a licence allows a use. Exits with 5 when a use is not allowed or not known."""
    from pantry.catalogue.rights import NOT_LEGAL_ADVICE, parse_circumstances, parse_uses
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_json
    from pantry.core.errors import PolicyRefusedError
    from pantry.core.paths import find_paths
    from pantry.operations.catalogue import rights_of

    asked = parse_circumstances(users, revenue, region, strict_data=strict_data)
    paths = find_paths()
    answers = rights_of(paths, open_catalogue(paths), ref, parse_uses(use), asked)
    if as_json:
        print_json([answer.to_json() for answer in answers])
    else:
        for answer in answers:
            typer.echo(f"{answer.use}: {answer.words}{' you:' if answer.conditions else ''}")
            for condition in answer.conditions:
                typer.echo(f"  - {condition}")
            typer.echo(f"  {answer.reason}")
            for each in answer.chain:
                typer.echo(f"  {each.link.role:8} {each.link.name}: {each.link.licence or 'unknown'} ({each.words})")
            for caution in answer.cautions:
                typer.echo(f"  Caution: {caution}")
            typer.echo(f"  Sources: {', '.join(answer.sources) or 'none'}")
        typer.echo(NOT_LEGAL_ADVICE)
    if any(answer.verdict in ("refused", "unknown") for answer in answers):
        raise typer.Exit(PolicyRefusedError.exit_code)
