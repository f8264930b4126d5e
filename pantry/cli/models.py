"""pantry list, show, path, rm, add."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pantry.repository.entry import Entry
    from pantry.selection.fit import Fit
    from pantry.store.models import InstalledModel
    from pantry.store.packages import Package, PackageFile

PANEL = "Models"


def register(app: typer.Typer) -> None:
    app.command("list", rich_help_panel=PANEL)(list_models)
    for command in (show, path, add, rm):
        app.command(rich_help_panel=PANEL)(command)


def list_models(as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """List the models on this machine."""
    from pantry.cli._output import note, print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.engines.choose import why_no_engine
    from pantry.install.installed import installed_models
    from pantry.operations.packages import packages_without_model

    models = installed_models(find_paths())
    if as_json:
        print_json([_as_object(model) for model in models])
        return
    rebuilt = any(model.facts.get("built_from") for model in models)
    rows = [
        [
            str(model.name),
            model.digest.short,
            format_bytes(model.size),
            _count(model.facts.get("parameters")),
            str(model.facts.get("quantisation") or "-"),
            str(model.facts.get("context") or "-"),
            str(model.facts.get("licence") or "unknown"),
            *([str(model.facts.get("built_from") or "-")] if rebuilt else []),
        ]
        for model in models
    ]
    columns = ["NAME", "ID", "SIZE", "PARAMETERS", "TYPE", "CONTEXT", "LICENCE", *(["BUILT FROM"] if rebuilt else [])]
    print_table(columns, rows, "No model is installed. `pantry run starter` brings the first one.")
    if idle := [str(model.name) for model in models if why_no_engine(model)]:
        note(f"No engine here runs {', '.join(idle[:5])}. See: pantry show {idle[0]}")
    if others := packages_without_model(find_paths()):
        note(f"Also installed, not to be run: {', '.join(each.name for each in others[:5])}. See: pantry package list")


def show(
    model: str = typer.Argument(help="Name of the model."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show what is known of a model, here or on offer: facts, rights, where to get it, whether it fits here."""
    import contextlib

    from pantry.cli._catalogue import open_catalogue
    from pantry.cli._output import print_json
    from pantry.cli.catalogue import print_description, print_rights
    from pantry.core.errors import NotFoundError, UsageError
    from pantry.core.paths import find_paths
    from pantry.engines.machine import machine_facts
    from pantry.install.resolve import offered
    from pantry.operations.catalogue import describe_any
    from pantry.operations.fit import fit_named
    from pantry.operations.packages import shown_package

    paths = find_paths()
    if (package := shown_package(paths, model)) is not None:
        _show_package(*package, as_json=as_json)
        return
    catalogue = open_catalogue(paths)
    try:
        shown = describe_any(paths, catalogue, model)
    except (NotFoundError, UsageError):
        if not (entries := offered(paths, model)):
            raise
        _show_offered(entries, as_json=as_json)
        return
    found, description = shown.installed, shown.description
    fit = None
    if found is None or found.kind.tensors:
        with contextlib.suppress(NotFoundError):  # of an entry that does not tell its size
            (fit,) = fit_named(paths, catalogue, [str(found.name) if found else model], machine_facts(paths))
    if as_json:
        known = _as_object(found) if found else {}
        print_json(
            {
                **known,
                "known_as": shown.remark,
                "rights": [answer.to_json() for answer in shown.answers],
                "catalogue": description.to_json() if description else None,
                "scores": [score.__dict__ | {"model": str(score.model)} for score in shown.scores],
                "fit": fit.to_json() if fit else None,
            }
        )
        return
    if found:
        _print_installed(found)
    if shown.remark:
        typer.echo(f"\n{shown.remark[0].upper()}{shown.remark[1:]}.\n")
    if description:
        print_description(description)
    else:
        print_rights(shown.answers)
    if shown.scores:
        typer.echo("\nMeasured here:")
    for score in shown.scores:
        typer.echo(f"  {score.capability} {score.score:g} of 10  ({score.date}, {score.engine}, {score.task})")
    if fit:
        typer.echo(f"\n{_fit_line(fit)}")


def _show_package(package: Package, files: list[PackageFile], *, as_json: bool) -> None:
    """What is installed and is not a model that runs: a dataset, a recipe, weights in a format without an engine."""
    from pantry.cli._output import note, print_facts, print_json
    from pantry.core.units import format_bytes
    from pantry.engines.choose import titles_run

    if as_json:
        print_json({**package.__dict__, "files": [file.path for file in files]})
        return
    print_facts(
        {
            "package": f"{package.name} {package.version}",
            "kind": package.kind,
            "about": package.summary,
            "size": f"{format_bytes(package.size)} in {len(files)} files",
            "from": package.source,
            "signed by": package.signer or "nobody",
        }
    )
    if package.kind == "model":
        note(f"It holds no file that an engine here runs; {titles_run()} files run.")


def _show_offered(entries: list[Entry], *, as_json: bool) -> None:
    """What repositories offer and is not here: the newest version, and which others there are."""
    from pantry.cli._output import note, print_facts, print_json
    from pantry.core.units import format_bytes
    from pantry.repository.index import newest

    if as_json:
        print_json(
            [{**each.facts.model_dump(), "repository": each.repository, "length": each.length} for each in entries]
        )
        return
    usable = newest(entries)
    entry = usable or entries[0]
    facts = entry.facts
    print_facts(
        {
            "package": f"{facts.name} {facts.version}",
            "kind": facts.kind,
            "about": facts.summary or None,
            "family": facts.family,
            "parameters": _count(facts.parameters) if facts.parameters else None,
            "type": facts.quantisation,
            "context": f"{facts.context} tokens" if facts.context else None,
            "base": ", ".join(facts.base) or None,
            "tags": " ".join(facts.tags) or None,
            "scores": ", ".join(f"{name} {score:g}" for name, score in facts.capabilities.items()) or None,
            "licence": facts.licence.weights or facts.licence.data or facts.licence.code or "unknown",
            "download": format_bytes(entry.length),
            "from": entry.repository,
            "taken back": facts.yanked,
            "versions": ", ".join(each.version for each in entries[:12]),
        }
    )
    exact = "" if usable else f":{facts.version}"
    note(f"It is not installed. Fetch it with: pantry pull {facts.name}{exact}")


def _print_installed(found: InstalledModel) -> None:
    from pantry.cli._output import print_facts
    from pantry.core.units import format_bytes, printable
    from pantry.engines.choose import why_no_engine

    facts, several = found.facts, found.parts if len(found.parts) > 1 else ()
    print_facts(
        {
            "name": found.name,
            "title": facts.get("title"),
            "about": facts.get("description"),
            "architecture": facts.get("architecture"),
            "parameters": _count(facts.get("parameters")),
            "type": facts.get("quantisation"),
            "context": f"{facts['context']} tokens" if facts.get("context") else None,
            "conversation": "yes" if facts.get("chat") else "no, it continues text",
            "licence": facts.get("licence") or "unknown",
            "built from": facts.get("built_from"),
            "size": format_bytes(found.size),
            "digest": found.digest,
            **{printable(part.path): f"{part.role}, {format_bytes(part.size)}" for part in several},
            "engine": why_no_engine(found),
            "source": found.source,
            "added": found.added_at,
        }
    )


def _fit_line(fit: Fit) -> str:
    from pantry.core.units import format_bytes, format_rate

    if fit.best is None:
        return "It does not fit this machine. See: pantry fit"
    speed = f", about {format_rate(fit.best.speed)} tokens a second ({fit.best.speed_class})" if fit.best.speed else ""
    if fit.measured is not None:
        first = f", the first after {fit.measured.first_token:.2g} s" if fit.measured.first_token else ""
        how = f"measured {fit.measured.date} with {fit.measured.engine}"
        speed = f". It writes {format_rate(fit.measured.rate)} tokens a second{first} ({how})"
    need = format_bytes(fit.best.need.ram)
    return f"It fits here as {fit.best.quantisation} with {fit.best.context} tokens in {need} of memory{speed}."


def path(model: str = typer.Argument(help="Name of the model.")) -> None:
    """Print the path of a model's file or folder, after checking its digests. It is read-only and must stay so."""
    from pantry.core.paths import find_paths
    from pantry.install.installed import model_path

    typer.echo(model_path(find_paths(), model))


def add(
    file: Path = typer.Argument(help="A GGUF file, or a folder with the files of one model."),
    name: str | None = typer.Option(None, help="Name for the model; that of the file or folder when left out."),
) -> None:
    """Check the file or files of a model and copy them into the store."""
    from pantry.cli._output import note
    from pantry.core.paths import find_paths
    from pantry.core.refs import ModelName
    from pantry.core.units import format_bytes
    from pantry.engines.choose import why_no_engine
    from pantry.install.installed import add_model
    from pantry.store.models import Store

    with Store.open(find_paths()) as store, _progress(f"Adding {file.name}") as progress:
        model = add_model(store, file, ModelName.parse(name) if name else None, progress=progress)
    typer.echo(f"Added {model.name} ({format_bytes(model.size)}, {model.digest.short}).")
    note(why_no_engine(model) or f'Try it: pantry run {model.name} "Hello"')


def rm(models: list[str] = typer.Argument(help="Names of the models.")) -> None:
    """Remove models from this machine, unloading them first."""
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.operations.models import remove_model

    for model in models:
        freed = remove_model(find_paths(), model)
        typer.echo(f"Removed {model}; {format_bytes(freed)} freed.")


def _progress(title: str) -> Any:
    """A progress bar on a terminal, nothing elsewhere: a context that gives the callback to report to."""
    from contextlib import nullcontext

    from rich.console import Console

    if not Console(stderr=True).is_terminal:
        return nullcontext(None)
    from pantry.cli._progress import bar

    return bar(title)


def _as_object(model: InstalledModel) -> dict[str, Any]:
    several = len(model.parts) > 1
    return {
        "name": str(model.name),
        "digest": str(model.digest),
        "size": model.size,
        "format": model.format,
        "source": model.source,
        "added_at": model.added_at,
        **({"parts": [{**part.__dict__, "digest": str(part.digest)} for part in model.parts]} if several else {}),
        **model.facts,
    }


def _count(number: int | None) -> str:
    if not number:
        return "-"
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)
