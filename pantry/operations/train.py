"""Training as a use-case: from a recipe folder to a model in the store."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from pantry.core.errors import ConflictError, ModelNotFoundError, UsageError, VerificationError
from pantry.core.files import write_atomically
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.core.sandbox import Limits, require_sandbox, run_script
from pantry.flatpack.folder import digest_of
from pantry.flatpack.manifest import read_manifest
from pantry.flatpack.signing.signature import verify
from pantry.flatpack.signing.trust import load_trust
from pantry.install.installed import add_model
from pantry.operations.models import remove_model
from pantry.store.models import Store
from pantry.workshop.recipe import RecipeFolder, read_recipe
from pantry.workshop.training.extra import require_training

if TYPE_CHECKING:
    from pantry.workshop.training.plan import Plan
    from pantry.workshop.training.run import Trained, Watcher


@dataclass(frozen=True)
class TrainingChoices:
    """What the caller chose over the recipe. `minutes` and `tokens` are of the whole training, resumed or not."""

    minutes: float | None = None
    tokens: int | None = None
    preset: str | None = None
    device: str = "auto"
    threads: int | None = None
    offline: bool = False

    def overrides(self) -> dict[str, Any]:
        """Settings of the recipe that the choices replace; naming one budget drops the recipe's other."""
        chosen: dict[str, Any] = {"preset": self.preset} if self.preset else {}
        if self.minutes is not None or self.tokens is not None:
            chosen |= {"minutes": self.minutes, "tokens": self.tokens}
        return chosen


@dataclass(frozen=True)
class Training:
    """The result: what was trained, and the name under which it is installed (None: the name is taken)."""

    trained: Trained
    installed: ModelName | None
    refused: str | None = None


def check_recipe(folder: Path, choices: TrainingChoices) -> RecipeFolder:
    """The recipe with the choices, checked; nothing is read but the manifest."""
    return read_recipe(folder, choices.overrides())


def plan_training(folder: Path, choices: TrainingChoices, out: Path | None = None) -> Plan:
    """What the training will take on this machine; reads and encodes the data, and times a few steps.

    Raises MissingExtraError, and as `train_recipe`.
    """
    recipe = check_recipe(folder, choices)
    require_training()
    from pantry.workshop.training.loop import choose_device
    from pantry.workshop.training.plan import make_plan
    from pantry.workshop.training.prepare import prepare
    from pantry.workshop.training.run import Places

    _use_threads(choices.threads)
    device = choose_device(choices.device)
    data = prepare(recipe, Places.beside(folder, out).room, offline=choices.offline)
    return make_plan(recipe.settings, data, device)


def train_recipe(
    paths: Paths,
    folder: Path,
    choices: TrainingChoices,
    watcher: Watcher,
    *,
    out: Path | None = None,
    resume: bool = False,
    fresh: bool = False,
    install: bool = True,
) -> Training | None:
    """Train the recipe in `folder`, write the flatpack folder, and add the model to the store under its name.

    A model of that name from an earlier training of the same folder is replaced. Processes of `torchrun` beside the
    main one answer None. Raises MissingExtraError,
    BadFileError, ConflictError, TrainingError, MemoryBudgetError, StorageError, UsageError; KeyboardInterrupt after
    Ctrl-C, when the checkpoint is saved.
    """
    recipe = check_recipe(folder, choices)
    require_training()
    from pantry.workshop.training.loop import choose_device
    from pantry.workshop.training.run import Places, train

    _use_threads(choices.threads)
    device = choose_device(choices.device)
    trained = train(
        recipe, Places.beside(folder, out), watcher, device=device, resume=resume, fresh=fresh, offline=choices.offline
    )
    if trained is None:
        return None
    if not install:
        return Training(trained, None)
    try:
        return Training(trained, _install(paths, trained.package.model, recipe.name))
    except ConflictError as error:
        return Training(trained, None, str(error))


def has_checkpoint(folder: Path, out: Path | None = None) -> bool:
    """Whether a training of the recipe in `folder` left something to go on from. Raises MissingExtraError."""
    require_training()
    from pantry.workshop.training.run import CHECKPOINT, Places

    return (Places.beside(folder, out).room / CHECKPOINT).is_file()


def _install(paths: Paths, file: Path, title: str) -> ModelName:
    from pantry.workshop.training.package import manifest_name

    name = ModelName.parse(manifest_name(title).rpartition("/")[2])
    with Store.open(paths) as store:
        try:
            earlier = store.get(name)
        except ModelNotFoundError:
            earlier = None
    if earlier is not None and earlier.source == str(file.absolute()):
        remove_model(paths, str(name))
    with Store.open(paths) as store:
        return add_model(store, file, name).name


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


DEFAULT_MINUTES = 60.0
MEMORY_SHARE = 0.75
"""Part of the machine's memory that a script may use."""


@dataclass(frozen=True)
class Script:
    """What would run: the recipe's folder, the script in it, its digest, and who signed it, in a sentence."""

    folder: Path
    run: str
    digest: str
    signed: str
    out: Path


def examine_script(paths: Paths, folder: Path, out: Path | None = None) -> Script:
    """The script of a recipe whose every file is covered by a trusted signature, and whose sandbox can be made here.

    Trust is asked for whatever the trust mode. Raises UsageError (no recipe, no sandbox), VerificationError.
    """
    verdict = verify(folder, load_trust(paths))
    if verdict.state != "trusted":
        raise VerificationError(
            f"Its script does not run: {verdict.sentence}",
            hint="Unbox a signed flatpack, and trust its key with: pantry key trust KEY.pem",
        )
    manifest = read_manifest(folder)
    if manifest.recipe is None:
        raise UsageError(f"{folder} is a {manifest.kind}, not a recipe; it has no script.")
    require_sandbox()
    whole = folder.resolve()
    target = out or whole.parent / f"{whole.name}-output"
    return Script(whole, manifest.recipe.run, str(digest_of(whole, manifest.recipe.run)), verdict.sentence, target)


def limits_for(minutes: float | None, network: bool) -> Limits:
    """The bounds of a run: the minutes (else an hour), and three quarters of the machine's memory."""
    memory = int(psutil.virtual_memory().total * MEMORY_SHARE)
    return Limits(60 * (minutes or DEFAULT_MINUTES), memory, network)


def run_recipe_script(
    script: Script, limits: Limits, tell: Callable[[str], None], *, resume: bool = False
) -> list[str]:
    """Run it in the sandbox and write `provenance.json`; returns what it left that was not a file and was deleted.

    With `resume` it may go on in its output folder; else that must be new or empty. Raises ConflictError, and as
    `pantry.core.sandbox.run_script`.
    """
    if script.out.exists() and not resume and any(script.out.iterdir()):
        raise ConflictError(
            f"{script.out} is not empty.", hint="Let the script go on there with --resume, or name another with -o."
        )
    began = datetime.datetime.now(datetime.UTC)
    removed = run_script(script.folder, script.run, script.out, limits, tell)
    facts = {
        "script": script.run,
        "digest": script.digest,
        "signed": script.signed,
        "network": limits.network,
        "began": began.isoformat(timespec="seconds"),
        "seconds": round((datetime.datetime.now(datetime.UTC) - began).total_seconds(), 1),
    }
    write_atomically(script.out / "provenance.json", (json.dumps(facts, indent=2) + "\n").encode())
    return removed
