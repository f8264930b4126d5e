"""Training as a job. Parameters: `folder`, and the choices of `pantry train`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantry.core.errors import UsageError
from pantry.operations.jobs.context import JobContext
from pantry.operations.jobs.kind import JobKind

if TYPE_CHECKING:
    from pantry.workshop.training.loop import Progress
    from pantry.workshop.training.run import Watcher


class JobWatcher:
    """Tells a job how its training goes, and another watcher too where there is one."""

    def __init__(self, context: JobContext, also: Watcher | None = None) -> None:
        self._context, self._also = context, also

    def stage(self, name: str, text: str) -> None:
        self._context.step(name, text)
        if self._also:
            self._also.stage(name, text)

    def step(self, progress: Progress, done: float) -> None:
        total = round(progress.tokens / done) if done else None
        if self._context.now.step != "training":
            self._context.step("training")
        self._context.progress(progress.tokens, total, "tokens")
        if self._also:
            self._also.step(progress, done)


def run(context: JobContext, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Train the recipe in the folder. A job that was interrupted goes on from its last checkpoint, if there is one."""
    from pantry.operations.train import TrainingChoices, has_checkpoint, train_recipe

    if parameters.get("script"):
        raise UsageError(
            "A recipe's own script runs only where its user agrees to it.", hint=f"Use: {again(parameters)}"
        )
    folder, out = Path(parameters["folder"]), parameters.get("out")
    place = Path(out) if out else None
    going_on = context.resuming and has_checkpoint(folder, place)
    done = train_recipe(
        context.paths,
        folder,
        TrainingChoices(**parameters.get("choices", {})),
        JobWatcher(context),
        out=place,
        resume=going_on or bool(parameters.get("resume")),
        fresh=not going_on and bool(parameters.get("fresh")),
        install=bool(parameters.get("install", True)),
    )
    if done is None:
        return {}
    return {
        "installed": str(done.installed) if done.installed else None,
        "folder": str(done.trained.package.folder),
        "refused": done.refused,
    }


def title(parameters: Mapping[str, Any]) -> str:
    return Path(parameters["folder"]).name


def again(parameters: Mapping[str, Any]) -> str:
    script = " --run-script" if parameters.get("script") else ""
    return f"pantry train {shlex.quote(str(parameters['folder']))}{script} --resume"


KIND = JobKind(run, title, again, resumes=True)
