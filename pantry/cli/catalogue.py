"""pantry search, catalogue list, show, diff, check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pantry.catalogue.rights import Answer
    from pantry.catalogue.schema import ModelEntry, Use
    from pantry.operations.catalogue import Description
    from pantry.repository.entry import Entry as RepositoryEntry

PANEL = "Catalogue"


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(search)
    group = typer.Typer(help="Facts about models, licences, data sets and tools.", no_args_is_help=True)
    group.command("list")(list_entries)
    group.command("show")(show)
    group.command("diff")(diff)
    group.command("check")(check)
    app.add_typer(group, name="catalogue", rich_help_panel=PANEL)


def search(
    words: list[str] = typer.Argument(None, help='What you look for, like "small coding model".'),
    licence_use: str | None = typer.Option(
        None, "--licence-use", "--use", help="Uses that must be allowed, like commercial."
    ),
    max_ram: str = typer.Option("", "--max-ram", help="Memory it may take, like 6GB."),
    tag: list[str] = typer.Option([], "--tag", help="Tags it must have, like 2025_MED."),
    kind: str | None = typer.Option(None, "--kind", help="In repositories: model, recipe, delta, adapter or dataset."),
    obtainable: bool = typer.Option(False, "--obtainable", help="Only models that can be downloaded as GGUF."),
    limit: int = typer.Option(20, min=1, max=1000, help="How many to show."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Search the configured repositories and the catalogue."""
    from pantry.catalogue import search as operations
    from pantry.catalogue.rights import parse_uses
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes, parse_bytes
    from pantry.operations.repositories import search_entries

    paths, uses = find_paths(), () if licence_use is None else parse_uses(licence_use)
    most = parse_bytes(max_ram) if max_ram else None
    offered = search_entries(paths, words or [], kind=kind, tags=tag, uses=uses, max_memory=most, limit=limit)
    found = []
    if kind in (None, "model"):
        found = operations.search(
            open_catalogue(paths),
            " ".join(words or []),
            uses=uses,
            max_memory=most,
            tags=tag,
            obtainable=obtainable,
            limit=limit,
        )
    if as_json:
        shipped = [model.model_dump(mode="json", exclude_defaults=True) for model in found]
        print_json([*(_offer(entry) for entry in offered), *shipped])
        return
    if offered:
        rows = [
            [
                e.name,
                e.version,
                e.facts.kind,
                format_bytes(e.length),
                e.facts.licence.weights or e.facts.licence.data or "unknown",
                e.repository,
            ]
            for e in offered
        ]
        print_table(["IN REPOSITORIES", "VERSION", "KIND", "DOWNLOAD", "LICENCE", "FROM"], rows, "")
        typer.echo()
    columns = ["NAME", "PARAMETERS", "MEMORY", "CONTEXT", "LICENCE", "TAGS"]
    if found or not offered:
        print_table(columns, [_row(model) for model in found], _nothing(words or [], uses, most))


def _nothing(words: list[str], uses: tuple[Use, ...], most: int | None) -> str:
    """What to try when a search finds nothing."""
    options = [name for name, given in (("--licence-use", uses), ("--max-ram", most)) if given]
    limits = f" Without {' and '.join(options)} there may be more." if options else ""
    return f"Nothing matches. Try {'fewer' if len(' '.join(words).split()) > 1 else 'other'} words.{limits}"


def _offer(entry: RepositoryEntry) -> dict[str, Any]:
    return {
        "repository": entry.repository,
        "id": entry.name,
        "version": entry.version,
        "kind": entry.facts.kind,
        "download_bytes": entry.length,
        "licence": entry.facts.licence.model_dump(exclude_none=True),
    }


def _row(model: ModelEntry) -> list[str]:
    from pantry.catalogue.memory import memory_size
    from pantry.core.units import format_bytes, format_count

    memory = None if model.remote else memory_size(model)
    size = format_count(model.parameters) if model.parameters else "-"
    context = format_count(model.context) if model.context else "-"
    return [
        model.id, size, format_bytes(memory) if memory else "-", context, model.licence or "unknown",
        " ".join(model.tags),
    ]  # fmt: skip


def list_entries(
    kind: str = typer.Argument("model", help="model, licence, dataset, engine, format, vector-store, sdk, ..."),
    text: str = typer.Option("", "--text", help="Words in the name."),
    origin: str = typer.Option("", help="builtin, overlay or repository."),
    source: str = typer.Option("", help="Only entries whose facts rest on this source."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """List the entries of one kind."""
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.operations import catalogue as operations

    catalogue = open_catalogue(find_paths())
    found = operations.list_entries(catalogue, kind, origin=origin or None, source=source or None, text=text or None)
    if as_json:
        print_json([{"origin": where} | entry.model_dump(mode="json", exclude_defaults=True) for where, entry in found])
        return
    rows = [
        [entry.id, str(getattr(entry, "name", getattr(entry, "title", ""))), str(getattr(entry, "checked", "-")), where]
        for where, entry in found
    ]
    print_table(["ID", "NAME", "CHECKED", "ORIGIN"], rows, f"There is no {kind} like that.")


def show(
    name: str = typer.Argument(help="A model of the catalogue."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what is known of a model: facts, rights, where to get it."""
    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_json
    from pantry.core.paths import find_paths
    from pantry.operations import catalogue as operations

    found = operations.describe(open_catalogue(find_paths()), name)
    if as_json:
        print_json(found.to_json())
        return
    print_description(found)


def print_description(found: Description) -> None:
    """Facts, rights with their reasons, and where to get a model of the catalogue."""
    from pantry.cli._output import print_facts
    from pantry.core.units import format_bytes

    model = found.model
    files = [f"{file.repo} {file.file}" for file in model.files] or list(model.gguf_repos)
    print_facts(
        {
            "name": model.id,
            "title": model.name,
            "family": found.family.name if found.family else model.family,
            "maker": model.organisation,
            "about": found.family.about if found.family else None,
            "parameters": f"{model.parameters / 1e9:.3g} billion" if model.parameters else None,
            "context": f"{model.context} tokens" if model.context else None,
            "released": model.released,
            "tags": " ".join(model.tags) or None,
            "made from": model.base,
            "learned from": ", ".join(model.data) or None,
            "alignment": model.alignment if model.alignment != "unknown" else None,
            "licence": model.licence or "unknown",
            "weights": model.weights,
            "training data": model.data_openness,
            "memory": f"about {format_bytes(found.memory)} in 4 bits" if found.memory else None,
            "get it": "; ".join(files) or model.hub_repo,
            "notes": model.notes,
            "checked": model.checked,
            "sources": "; ".join(found.sources.values()) or None,
        }
    )
    print_rights(found.answers)


def print_rights(answers: Sequence[Answer]) -> None:
    """What a model may be used for, under which conditions or why not."""
    from pantry.catalogue.rights import NOT_LEGAL_ADVICE
    from pantry.cli._output import print_table

    typer.echo()
    rows = [[answer.use, answer.words, "; ".join(answer.conditions) or answer.reason] for answer in answers]
    print_table(["USE", "ANSWER", "CONDITIONS OR REASON"], rows, "")
    for caution in dict.fromkeys(text for answer in answers for text in answer.cautions):
        typer.echo(f"Caution: {caution}")
    typer.echo(NOT_LEGAL_ADVICE)


def diff(
    old: Path | None = typer.Argument(None, help="A catalogue file or folder; what is shipped when left out."),
    new: Path | None = typer.Argument(None, help="Another one; what is in use here when left out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what differs between two catalogues."""
    from pantry.cli._output import print_json
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths
    from pantry.operations import catalogue as operations

    if old is None:
        changes = operations.overlay_changes(find_paths())
    elif new is None:
        raise UsageError("Name both catalogues, or none of them.")
    else:
        changes = operations.compare(operations.read_catalogue(old), operations.read_catalogue(new))
    if as_json:
        print_json([{"kind": c.kind, "id": c.id, "change": c.change, "fields": dict(c.fields)} for c in changes])
        return
    for change in changes:
        typer.echo(f"{change.change:8} {change.kind} {change.id}")
        for field, (before, after) in change.fields.items():
            typer.echo(f"         {field}: {before!r} -> {after!r}")
    if not changes:
        typer.echo("No differences.")


def check(
    places: list[Path] = typer.Argument(None, help="Files or folders; your overlay and repositories when left out."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Look over catalogue files: wrong fields, names that lead nowhere, licences, circles. Exits with 8 if any."""
    from pantry.catalogue.check import check_catalogue
    from pantry.cli._output import note, print_json
    from pantry.core.errors import BadFileError
    from pantry.core.paths import find_paths

    paths = find_paths()
    found = check_catalogue(paths, places or ())
    if as_json:
        print_json({"entries": found.count, "problems": list(found.problems)})
    elif found.problems:
        for problem in found.problems:
            note(problem)
        count = len(found.problems)
        note(f"{count} problem{'s' if count > 1 else ''}; {found.count} entries could be read.")
    elif places or found.count:
        typer.echo(f"{found.count} entries, all of them in order.")
    else:
        typer.echo(f"There are none yet. Yours go into {paths.config / 'catalogue'}, as TOML files.")
    if found.problems:
        raise typer.Exit(BadFileError.exit_code)
