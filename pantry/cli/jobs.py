"""pantry jobs: long work, wherever it runs, and its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from pantry.store.jobs import Job, JobProgress

jobs = typer.Typer(help="Long work: what runs, how far it is, and its end.", invoke_without_command=True)
JOB = typer.Argument(help="Id of the job, or its first characters.")
AS_JSON = typer.Option(False, "--json", help="Print JSON.")
LOOK_EVERY = 0.25  # seconds between two looks at a log that is followed


def register(app: typer.Typer) -> None:
    app.add_typer(jobs, name="jobs", rich_help_panel="Models")


@jobs.callback()
def list_(
    context: typer.Context,
    everything: bool = typer.Option(False, "--all", help="Also those that ended long ago."),
    as_json: bool = AS_JSON,
) -> None:
    """List the jobs: pulls, trainings. They are those of commands, of the service and of apps."""
    if context.invoked_subcommand is not None:
        return
    from pantry.cli._output import note, print_json, print_table
    from pantry.core.paths import find_paths
    from pantry.operations.jobs.manage import list_jobs

    found = list_jobs(find_paths(), everything=everything)
    if as_json:
        print_json([job.to_json() for job in found])
        return
    columns = ["ID", "KIND", "WHAT", "STATE", "STEP", "PROGRESS", "RATE", "LEFT"]
    print_table(columns, [_row(job) for job in found], "There are no jobs.")
    for job in found:
        if job.state == "interrupted" and job.error and job.error.hint:
            note(f"{job.id[:8]} was interrupted. {job.error.hint}")


@jobs.command()
def show(job: str = JOB, as_json: bool = AS_JSON) -> None:
    """Show one job."""
    from pantry.cli._output import print_facts, print_json
    from pantry.core.paths import find_paths
    from pantry.operations.jobs.manage import get_job

    found = get_job(find_paths(), job)
    if as_json:
        print_json(found.to_json())
        return
    _, kind, title, state, step, progress, rate, left = _row(found)
    facts: dict[str, Any] = {
        "id": found.id,
        "kind": kind,
        "what": title,
        "state": state,
        "step": step,
        "progress": progress,
    }
    facts |= {"rate": rate, "left": left, "app": found.app, "process": None if found.ended else found.process}
    facts |= {"created": found.created_at, "started": found.started_at, "ended": found.ended_at}
    facts |= {"error": found.error.message, "code": found.error.code, "hint": found.error.hint} if found.error else {}
    facts |= {name: value for name, value in (found.result or {}).items() if value is not None}
    print_facts({name: value for name, value in facts.items() if value != ""})


@jobs.command()
def cancel(job: str = JOB, as_json: bool = AS_JSON) -> None:
    """Stop a job. What has come of a pull, and the checkpoint of a training, are kept."""
    from pantry.cli._output import print_json
    from pantry.core.paths import find_paths
    from pantry.operations.jobs.manage import cancel_job

    found = cancel_job(find_paths(), job)
    if as_json:
        print_json(found.to_json())
        return
    done = "Cancelled" if found.ended else "Being cancelled"
    typer.echo(f"{done}: {found.kind} {found.title}.")


@jobs.command()
def log(
    job: str = JOB,
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on with what is written, until the job ends."),
) -> None:
    """Print the log of a job."""
    from pantry.core.paths import find_paths
    from pantry.operations.jobs.manage import get_job, read_log

    paths = find_paths()
    found, offset = get_job(paths, job), 0
    while True:
        ended = found.ended  # looked at before the log is read, so that nothing after it is missed
        text, offset = read_log(paths, found.id, offset)
        typer.echo(text, nl=False)
        if ended or not follow:
            return
        time.sleep(LOOK_EVERY)
        found = get_job(paths, found.id)


def _row(job: Job) -> list[str]:
    from pantry.core.units import format_duration

    progress = job.progress
    left = format_duration(progress.left) if progress.left is not None and not job.ended else ""
    return [job.id[:8], job.kind, job.title, job.state, progress.step, _amount(progress), _rate(progress), left]


def _amount(progress: JobProgress) -> str:
    """`120.0 MB of 400.0 MB (30%)`; nothing where nothing was counted."""
    if not progress.unit:
        return ""
    done = _count(progress.done, progress.unit)
    if not progress.total:
        return done
    return f"{done} of {_count(progress.total, progress.unit)} ({progress.done / progress.total:.0%})"


def _rate(progress: JobProgress) -> str:
    return f"{_count(progress.rate, progress.unit)}/s" if progress.rate else ""


def _count(count: float, unit: str) -> str:
    from pantry.core.units import format_bytes, format_count

    return format_bytes(count) if unit == "bytes" else f"{format_count(count)} {unit}"
