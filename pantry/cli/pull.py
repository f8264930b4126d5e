"""pantry pull, gc, discover."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pantry.core.errors import TermsError
    from pantry.core.paths import Paths
    from pantry.operations.jobs.context import JobContext
    from pantry.operations.pull import Options, Pulled

PANEL = "Models"


def register(app: typer.Typer) -> None:
    for command in (pull, gc, discover):
        app.command(rich_help_panel=PANEL)(command)


def pull(
    refs: list[str] = typer.Argument(
        help="NAME, NAME:VERSION, hf://ORG/REPO[:QUANTISATION], https://…/x.fpk or ./x.fpk."
    ),
    name: str | None = typer.Option(None, help="Name for the model on this machine."),
    repository: str | None = typer.Option(None, "--from", help="Look in this repository only."),
    pickle: bool = typer.Option(False, "--pickle", help="Let pickled weights of a hub in, this once."),
    base: str | None = typer.Option(None, help="For a delta: its base, a file, folder or model of this machine."),
    accept_terms: bool = typer.Option(False, "--accept-terms", help="For a delta: accept the terms of its base."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Say only what was installed."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Fetch models and other flatpacks, verify them, and install them. Broken downloads are continued."""
    from pantry.cli._output import note, print_json
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths
    from pantry.core.refs import ModelName
    from pantry.engines.choose import titles_run
    from pantry.operations.pull import Options

    if name is not None and len(refs) > 1:
        raise UsageError("--name goes with one model at a time.")
    options = Options(ModelName.parse(name) if name else None, repository, pickle, base)
    accepted = _Accepted(everything=accept_terms)
    pulled = [_pull_as_job(find_paths(), ref, options, accepted, quiet or as_json) for ref in refs]
    if as_json:
        print_json([_as_object(each) for each in pulled])
        return
    for each in pulled:
        state = "is up to date" if each.up_to_date else "is installed"
        typer.echo(f"{each.package.name} {each.package.version} {state}.")
    last = pulled[-1]
    if last.model is not None and last.no_engine is None and not last.up_to_date:
        note(f'Try it: pantry run {last.model} "Hello"')
    for each in pulled:
        if each.package.kind == "model" and (each.model is None or each.no_engine):
            reason = each.no_engine or f"No engine here runs its files; {titles_run()} files run."
            note(f"{reason} Its files: pantry package files {each.package.name}")


def gc(
    everything: bool = typer.Option(False, "--all", help="Also unfinished downloads younger than a week."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Delete files that no model uses any more, and old unfinished downloads."""
    from pantry.cli._output import print_json
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.operations.packages import collect_garbage

    cleaned = collect_garbage(find_paths(), everything=everything)
    if as_json:
        print_json(cleaned.__dict__)
        return
    freed = format_bytes(cleaned.size + cleaned.partial)
    typer.echo(f"Removed {cleaned.files} files of the store; {freed} freed with unfinished downloads.")


def discover(
    add: bool = typer.Option(False, "--add", help="Take all that is found into the store."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Find GGUF models in the caches of Hugging Face, Ollama and LM Studio. Nothing is changed without --add."""
    from pantry.cli._output import note, print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes
    from pantry.install.other_runners import add_found, find_models

    found = find_models()
    if as_json and not add:
        print_json([{**each.__dict__, "file": str(each.file), "name": str(each.name)} for each in found])
        return
    rows = [[each.runner, str(each.name), format_bytes(each.size), str(each.file)] for each in found]
    print_table(["FROM", "NAME", "SIZE", "FILE"], rows, "No model of another runner was found.")
    if not add:
        if found:
            note("Take them in with: pantry discover --add")
        return
    for outcome in add_found(find_paths(), found):
        how = f"{outcome.error.message}" if outcome.error else outcome.how
        typer.echo(f"{outcome.found.name}: {how}")


class _Accepted:
    """The terms that the user accepts."""

    def __init__(self, *, everything: bool) -> None:
        self._everything = everything
        self._terms: set[str] = set()

    def __call__(self, terms: str) -> bool:
        return self._everything or terms in self._terms

    def ask(self, error: TermsError) -> bool:
        """Ask at the terminal; no terminal is a no."""
        from rich.console import Console

        if sys.stdin.isatty() and Console(stderr=True).is_terminal:
            typer.echo(error.message, err=True)
            if typer.confirm("Do you accept them?", err=True):
                self._terms.add(error.terms)
                return True
        return False


def _pull_as_job(paths: Paths, ref: str, options: Options, accepted: _Accepted, quiet: bool) -> Pulled:
    """Pull as a job that `pantry jobs` shows elsewhere, and can cancel."""
    from pantry.operations.jobs.run import in_foreground

    given = {"name": options.name, "repository": options.repository, "base": options.base}
    parameters: dict[str, Any] = {"ref": ref, **{key: str(value) for key, value in given.items() if value}}
    if options.pickle:
        parameters["pickle"] = True
    with in_foreground(paths, "pull", parameters) as job:
        pulled = _pull_asking(paths, ref, options, accepted, quiet, job)
        job.result = {"model": str(pulled.model) if pulled.model else None, "package": pulled.package.name}
    return pulled


def _pull_asking(paths: Paths, ref: str, options: Options, accepted: _Accepted, quiet: bool, job: JobContext) -> Pulled:
    """Pull; where terms must be accepted first, ask and take the pull up again."""
    from dataclasses import replace

    from pantry.core.errors import TermsError

    while True:
        try:
            return _pull_one(paths, ref, replace(options, accept=accepted), quiet, job)
        except TermsError as error:
            if not accepted.ask(error):
                raise


def _pull_one(paths: Paths, ref: str, options: Options, quiet: bool, job: JobContext) -> Pulled:
    from rich.console import Console

    from pantry.cli._output import note
    from pantry.operations.pull import pull

    def say(step: str, words: str) -> None:
        job.step(step, words)
        if not quiet:
            note(f"{step:<18} {' '.join(words.splitlines())}")

    if quiet or not Console(stderr=True).is_terminal:
        return pull(paths, ref, options, say, job.progress)
    from pantry.cli._progress import bar

    with bar(ref) as show:

        def progress(done: int, total: int) -> None:
            job.progress(done, total)
            show(done, total)

        return pull(paths, ref, options, say, progress)


def _as_object(pulled: Pulled) -> dict[str, Any]:
    package = pulled.package
    return {
        "package": package.name,
        "version": package.version,
        "kind": package.kind,
        "model": str(pulled.model) if pulled.model else None,
        "up_to_date": pulled.up_to_date,
        "size": package.size,
        "contents": str(package.contents),
        "source": package.source,
        "signer": package.signer,
    }
