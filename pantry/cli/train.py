"""pantry train."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pantry.core.paths import Paths
    from pantry.operations.jobs.context import JobContext
    from pantry.operations.train import Training
    from pantry.workshop.training.loop import Progress
    from pantry.workshop.training.plan import Plan


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="Models")(train)


def train(
    folder: Path = typer.Argument(help="Folder with a recipe: a flatpack.toml of kind recipe, and the data."),
    minutes: float | None = typer.Option(None, min=0.01, help="Train so long, earlier parts of it included."),
    tokens: int | None = typer.Option(None, min=1, help="Train on so many tokens."),
    preset: str | None = typer.Option(
        None, help="Sizes: nano (1 M parameters), micro (6 M), mini (26 M), small (105 M)."
    ),
    resume: bool = typer.Option(False, "--resume", help="Go on from the last checkpoint."),
    fresh: bool = typer.Option(False, "--fresh", help="Begin anew, whatever is there."),
    device: str = typer.Option("auto", help="auto, cpu, cuda or mps."),
    threads: int | None = typer.Option(None, min=1, help="Processor threads; torch's own choice when left out."),
    out: Path | None = typer.Option(None, "--output", "-o", help="The flatpack folder; FOLDER-model when left out."),
    plan: bool = typer.Option(False, "--plan", help="Say what the training will take, and stop."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Check the recipe and print every setting, and stop."),
    install: bool = typer.Option(True, help="Add the model to this machine's models."),
    run_script: bool = typer.Option(
        False, "--run-script", help="Run the recipe's own script, in a sandbox; only with a trusted signature."
    ),
    allow_network: bool = typer.Option(False, "--allow-network", help="With --run-script: it may use the network."),
    yes: bool = typer.Option(False, "--yes", "-y", help="With --run-script: do not ask."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Train a language model from scratch on your text: tokenizer, training, GGUF, flatpack. Ctrl-C saves."""
    from dataclasses import asdict

    from pantry.cli._output import note, print_json
    from pantry.core.errors import UsageError
    from pantry.core.paths import find_paths
    from pantry.core.settings import load_settings
    from pantry.operations.jobs.kinds.train import JobWatcher
    from pantry.operations.train import TrainingChoices, check_recipe, plan_training, train_recipe

    if resume and fresh:
        raise UsageError("--resume goes on and --fresh begins anew; give one of them.")
    paths = find_paths()
    if run_script:
        _run_script(folder, minutes, out, network=allow_network, yes=yes, resume=resume)
        return
    choices = TrainingChoices(minutes, tokens, preset, device, threads, offline=load_settings(paths).offline)
    if dry_run:
        _print_settings(check_recipe(folder, choices).settings.model_dump(), as_json)
        return
    if plan:
        _print_plan(plan_training(folder, choices, out), as_json)
        return
    parameters = {
        "folder": str(folder.absolute()),
        "out": str(out.absolute()) if out else None,
        "choices": asdict(choices),
        "resume": resume,
        "fresh": fresh,
        "install": install,
    }
    with _watching() as watcher, _as_job(paths, parameters) as job:
        watched = JobWatcher(job, watcher) if job else watcher
        done = train_recipe(paths, folder, choices, watched, out=out, resume=resume, fresh=fresh, install=install)
    if done is None:
        return
    if as_json:
        print_json(_as_object(done))
        return
    package = done.trained.package
    if done.installed:
        typer.echo(f'Installed as {done.installed}. Try it: pantry run {done.installed} "Once"')
    if done.refused:
        note(f"Not installed: {done.refused}")
    if package.faults:
        note(f"Before it can be packed, fill in what stands in [brackets] in {package.folder}:")
        for fault in package.faults:
            note(f"  {fault}")
    note(f"Pack it: pantry pack {package.folder}")


def _run_script(
    folder: Path, minutes: float | None, out: Path | None, *, network: bool, yes: bool, resume: bool
) -> None:
    """Say what would run and who signed it, ask, and run it."""
    from pantry.cli._output import note
    from pantry.core.paths import find_paths
    from pantry.core.units import format_bytes, format_duration
    from pantry.operations.train import examine_script, limits_for, run_recipe_script

    script = examine_script(find_paths(), folder, out)
    limits = limits_for(minutes, network)
    typer.echo(f"{script.run}, {script.digest}")
    typer.echo(script.signed)
    typer.echo(
        f"It may run {format_duration(limits.seconds)}, use {format_bytes(limits.memory)} of memory, write to "
        f"{script.out}, and {'use the network' if network else 'not use the network'}."
    )
    if not yes and not typer.confirm("Run it?"):
        typer.echo("Nothing was run.")
        raise typer.Exit(1)
    with _as_job(find_paths(), {"folder": str(script.folder), "script": True}) as job:

        def tell(line: str) -> None:
            note(line)
            if job:
                job.log(line)

        removed = run_recipe_script(script, limits, tell, resume=resume)
    for name in removed:
        note(f"Deleted, because it is not a file: {name!r}")
    typer.echo(f"Done. What it made is in {script.out}")


@contextmanager
def _as_job(paths: Paths, parameters: dict[str, Any]) -> Iterator[JobContext | None]:
    """Train as a job that `pantry jobs` shows elsewhere, and can cancel; of `torchrun`'s processes, in the main one."""
    from pantry.operations.jobs.run import in_foreground

    if os.environ.get("RANK", "0") != "0":
        yield None
        return
    with in_foreground(paths, "train", parameters) as job:
        yield job


class _Lines:
    """One line a stage; while it learns, a line every few seconds that on a terminal replaces the one before."""

    def __init__(self, live: Any) -> None:
        self.live = live
        self.last = 0.0

    def stage(self, name: str, text: str) -> None:
        if self.live is not None:
            self.live.update("")
        from pantry.cli._output import note

        note(f"{name:9} {text}")

    def step(self, progress: Progress, done: float) -> None:
        pause = 0.2 if self.live is not None else 30.0
        if progress.step > 1 and progress.seconds - self.last < pause:
            return
        self.last = progress.seconds
        speed = progress.tokens / max(progress.seconds, 1e-9)
        line = f"training  {done:4.0%}  step {progress.step:,}  loss {progress.loss:.3f}  {speed:,.0f} tokens/s"
        if self.live is not None:
            self.live.update(line)
        else:
            from pantry.cli._output import note

            note(line)


@contextmanager
def _watching() -> Iterator[_Lines]:
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(None)
        return
    from rich.live import Live

    with Live("", console=console, transient=True) as live:
        yield _Lines(live)


def _print_settings(settings: dict[str, Any], as_json: bool) -> None:
    from pantry.cli._output import print_facts, print_json

    if as_json:
        print_json(settings)
    else:
        print_facts({name: "none" if value in (None, "") else value for name, value in settings.items()})


def _print_plan(plan: Plan, as_json: bool) -> None:
    from dataclasses import asdict

    from pantry.cli._output import note, print_facts, print_json
    from pantry.core.units import format_bytes, format_duration
    from pantry.workshop.training.plan import is_short

    if as_json:
        print_json(asdict(plan))
        return
    print_facts(
        {
            "parameters": f"{plan.parameters:,}",
            "data": f"{plan.data_tokens:,} tokens to train on",
            "training": f"{plan.tokens:,} tokens in {plan.steps:,} steps, {plan.epochs:.1f} times the data",
            "memory": f"{format_bytes(plan.memory)} of {format_bytes(plan.free_memory)} free",
            "speed": f"{plan.tokens_per_second:,.0f} tokens a second",
            "time": format_duration(plan.seconds or 0.0),
            "expected": f"about {plan.expected:.1f} bits per byte (what bzip2 needs for this text; a rule of thumb)",
        }
    )
    if is_short(plan):
        note(f"This is {plan.tokens_per_parameter:.1f} tokens a parameter; with less than 10, expect a worse loss.")


def _as_object(done: Training) -> dict[str, Any]:
    trained = done.trained
    return {
        "installed": str(done.installed) if done.installed else None,
        "folder": str(trained.package.folder),
        "model": str(trained.package.model),
        "parameters": trained.parameters,
        "steps": trained.progress.step,
        "tokens": trained.progress.tokens,
        "seconds": round(trained.progress.seconds, 3),
        "held_out_loss": trained.held_out.loss,
        "held_out_bits_per_byte": trained.held_out.bits_per_byte,
        "to_fill_in": list(trained.package.faults),
    }
