"""One training from a recipe folder to a flatpack folder: the stages in order, stops, checkpoints and resume."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from pantry.core.errors import ConflictError, NotFoundError, TrainingError
from pantry.core.units import format_duration
from pantry.flatpack.manifest import CARD_NAME
from pantry.workshop.data.cleaning import counted
from pantry.workshop.data.hub_card import licence_of
from pantry.workshop.recipe import RecipeFolder
from pantry.workshop.training.board import FOLDER as BOARD
from pantry.workshop.training.board import TensorBoardWriter
from pantry.workshop.training.checkpoint import load_checkpoint
from pantry.workshop.training.loop import HeldOut, Progress, Trainer
from pantry.workshop.training.metrics import Metrics
from pantry.workshop.training.package import Package, check_free, fill_recipe_card, write_package
from pantry.workshop.training.parallel import Group, joined
from pantry.workshop.training.plan import check_fits, make_plan
from pantry.workshop.training.prepare import Prepared, prepare
from pantry.workshop.training.provenance import EnergyMeter, describe
from pantry.workshop.training.samples import write_samples
from pantry.workshop.training.schedule import Budget

CHECKPOINT, BEST, METRICS = "checkpoint.pt", "best.pt", "metrics.jsonl"
NOTE_EVERY = 10  # steps


class Watcher(Protocol):
    """Who wants to know how a training goes."""

    def stage(self, name: str, text: str) -> None:
        """A stage is done, or there is something to say about it."""

    def step(self, progress: Progress, done: float) -> None:
        """A step was made; `done` is the share of the budget used up."""


class Silence:
    """A watcher that says nothing: that of the processes beside the main one."""

    def stage(self, name: str, text: str) -> None:
        pass

    def step(self, progress: Progress, done: float) -> None:
        pass


@dataclass(frozen=True)
class Trained:
    """What came out of a training."""

    package: Package
    progress: Progress
    held_out: HeldOut
    parameters: int
    chat: bool


@dataclass(frozen=True)
class Places:
    """Where a training works, and where its result goes."""

    room: Path
    out: Path

    @classmethod
    def beside(cls, folder: Path, out: Path | None = None) -> Places:
        """`NAME-training` and `NAME-model` beside the recipe's folder, so that neither is packed with the recipe."""
        whole = folder.resolve()
        return cls(whole.parent / f"{whole.name}-training", out or whole.parent / f"{whole.name}-model")


def train(
    recipe: RecipeFolder,
    places: Places,
    watcher: Watcher,
    *,
    device: str = "cpu",
    resume: bool = False,
    fresh: bool = False,
    offline: bool = False,
) -> Trained | None:
    """Train and write the flatpack folder. Ctrl-C saves a checkpoint and then raises KeyboardInterrupt.

    Of several processes (`torchrun`) the main one speaks, writes and answers; the others answer None.

    Raises ConflictError when an unfinished training is there and neither `resume` nor `fresh` is given, when the
    recipe differs from the checkpoint's, or when the result's place is taken; NotFoundError for `resume` without a
    checkpoint; TrainingError when the numbers run away; MemoryBudgetError, StorageError, BadFileError.
    """
    check_free(places.out)
    checkpoint = places.room / CHECKPOINT
    with joined(device) as group:
        watcher = watcher if group.main else Silence()
        saved = _saved(checkpoint, resume=resume, fresh=fresh)
        watcher.stage("reading", ", ".join(filter(None, (*recipe.data, recipe.settings.dataset))))
        data = _prepare_once(recipe, places.room, group, watcher, offline=offline, fresh=fresh)
        if data.dataset and not recipe.data_licence:
            recipe = recipe.model_copy(update={"data_licence": licence_of(data.dataset)})
        watcher.stage("tokenizer", f"{data.vocab:,} tokens ({recipe.settings.tokenizer})")
        watcher.stage("data", _data_text(data))
        check_fits(make_plan(recipe.settings, data, device, measure=False), recipe.settings, data.vocab, device)
        trainer = Trainer(recipe.settings, data, device, _budget(recipe, saved), group)
        if saved:
            trainer.resume(checkpoint)
            watcher.stage("resumed", f"at step {trainer.progress.step:,}")
        elif group.main:
            for name in (CHECKPOINT, BEST):
                (places.room / name).unlink(missing_ok=True)
        meter = EnergyMeter()
        held_out = _learn(trainer, places.room, watcher)
        trainer.gather()
        group.wait()
        return _finish(recipe, trainer, held_out, meter, places, watcher) if group.main else None


def _prepare_once(
    recipe: RecipeFolder, room: Path, group: Group, watcher: Watcher, *, offline: bool, fresh: bool
) -> Prepared:
    """The data, prepared by the main process; the others read what it made."""
    if group.main:
        data = prepare(recipe, room, offline=offline, renew=fresh, tell=partial(watcher.stage, "reading"))
    group.wait()
    return data if group.main else prepare(recipe, room, offline=True)


def _finish(
    recipe: RecipeFolder, trainer: Trainer, held_out: HeldOut, meter: EnergyMeter, places: Places, watcher: Watcher
) -> Trained:
    """Say how it went, and write everything."""
    progress = trainer.progress
    watcher.stage(
        "training",
        f"{progress.step:,} steps, {progress.tokens:,} tokens in {format_duration(progress.seconds)}",
    )
    watcher.stage("checkpoint", str(places.room / CHECKPOINT))
    watcher.stage(
        "evaluation", f"held-out loss {held_out.loss:.3f}, {held_out.bits_per_byte:.3f} bits per byte of held-out text"
    )
    samples = write_samples(trainer.model, trainer.data, recipe.settings.seed)
    facts = describe(recipe, trainer, held_out, samples, meter.joules())
    package = write_package(recipe, trainer, facts, places.room / METRICS, places.out)
    watcher.stage("export", ", ".join(package.exports))
    if fill_recipe_card(recipe, trainer):
        watcher.stage("card", f"filled in what is known of the data in {recipe.folder / CARD_NAME}")
    watcher.stage("flatpack", str(package.folder))
    return Trained(package, progress, held_out, trainer.shape.parameters, trainer.data.chat)


def _saved(checkpoint: Path, *, resume: bool, fresh: bool) -> dict[str, Any] | None:
    """The checkpoint to go on from. A finished training counts as none unless `resume` asks for more of it."""
    if not checkpoint.is_file():
        if resume:
            raise NotFoundError(f"There is no checkpoint in {checkpoint.parent}.", hint="Start without --resume.")
        return None
    if fresh:
        return None
    content = load_checkpoint(checkpoint)
    if resume:
        return content
    progress = Progress(**content["progress"])
    if Budget(**content["budget"]).done(progress.tokens, progress.seconds) < 1:
        raise ConflictError(
            f"An unfinished training is in {checkpoint.parent}, at step {progress.step:,}.",
            hint="Go on with --resume, or begin anew with --fresh.",
        )
    return None


def _budget(recipe: RecipeFolder, saved: dict[str, Any] | None) -> Budget | None:
    """The checkpoint's budget, unless the recipe now names another."""
    if saved is None:
        return None
    was = saved["recipe"]
    settings = recipe.settings
    same = (settings.tokens, settings.minutes) in ((was.get("tokens"), was.get("minutes")), (None, None))
    return Budget(**saved["budget"]) if same else None


def _data_text(data: Prepared) -> str:
    documents = counted(data.cleaned.kept, "documents")
    counts = f"{documents}, {len(data.train):,} tokens to train on, {len(data.validation):,} held out"
    return "; ".join([counts, *data.cleaned.sentences()])


def _learn(trainer: Trainer, room: Path, watcher: Watcher) -> HeldOut:
    """Steps until the budget is used up, patience ends, or a signal comes; how good the weights are that are left."""
    recipe, checkpoint, group = trainer.recipe, room / CHECKPOINT, trainer.group
    held_out: HeldOut | None = None
    saved_at, saved_step = time.monotonic(), trainer.progress.step
    with _noted(trainer, room) as metrics, _stop_signals() as stop:
        while trainer.done < 1 and not _patience_is_over(trainer):
            try:
                loss = trainer.step()
            except TrainingError as error:
                kept = f"The checkpoint of step {saved_step:,} is kept. " if checkpoint.is_file() else ""
                raise TrainingError(error.message, hint=f"{kept}{error.hint}") from None
            progress = trainer.progress
            if progress.step == 1 or progress.step % NOTE_EVERY == 0:
                metrics.add(step=progress.step, tokens=progress.tokens, seconds=round(progress.seconds, 3), loss=loss)
            watcher.step(progress, trainer.done)
            if progress.step % recipe.evaluate_every == 0:
                held_out = _evaluate(trainer, room, metrics)
            due = time.monotonic() - saved_at > 60 * recipe.save_minutes
            stopped, due = group.any(stop.is_set(), group.main and due)
            if stopped or due:
                trainer.save(checkpoint)
                saved_at, saved_step = time.monotonic(), progress.step
            if stopped:
                watcher.stage("stopped", f"saved at step {progress.step:,}; go on with --resume")
                raise KeyboardInterrupt
        if trainer.progress.step % recipe.evaluate_every:
            held_out = _evaluate(trainer, room, metrics)
    trainer.save(checkpoint)
    group.wait()
    if recipe.patience and (room / BEST).is_file():
        trainer.restore(load_checkpoint(room / BEST))
        held_out = None
    return held_out or trainer.evaluate()


@contextmanager
def _noted(trainer: Trainer, room: Path) -> Iterator[Metrics]:
    """Where the losses are noted: in files of the main process."""
    progress, board = trainer.progress, None
    if trainer.group.main and trainer.recipe.tensorboard:
        board = TensorBoardWriter(room / BOARD, after_tokens=progress.tokens)
    try:
        yield Metrics(room / METRICS if trainer.group.main else None, after_step=progress.step, board=board)
    finally:
        if board:
            board.close()


def _evaluate(trainer: Trainer, room: Path, metrics: Metrics) -> HeldOut:
    held_out = trainer.evaluate()
    progress = trainer.progress
    metrics.add(
        step=progress.step, tokens=progress.tokens, seconds=round(progress.seconds, 3), held_out=held_out.loss,
        bits_per_byte=held_out.bits_per_byte,
    )  # fmt: skip
    if trainer.note_evaluation(held_out) and trainer.recipe.patience:
        trainer.save(room / BEST)
    return held_out


def _patience_is_over(trainer: Trainer) -> bool:
    progress, recipe = trainer.progress, trainer.recipe
    return bool(recipe.patience) and progress.step - progress.best_step >= recipe.patience * recipe.evaluate_every


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set while a training runs in the main thread; the step at hand is finished."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
