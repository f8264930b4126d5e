"""The training loop: steps, held-out loss, checkpoints, exact resume."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pantry.core.errors import ConflictError, MemoryBudgetError, TrainingError, UsageError
from pantry.workshop.data.tokens import training_windows
from pantry.workshop.recipe import TrainingRecipe
from pantry.workshop.training.checkpoint import load_checkpoint, save_checkpoint
from pantry.workshop.training.compiling import Network, compiled
from pantry.workshop.training.model import build_model
from pantry.workshop.training.optimisers import build_optimisers
from pantry.workshop.training.parallel import (
    Group,
    check_parts,
    gradients_stay,
    load_model,
    load_optimiser,
    spread,
    whole,
)
from pantry.workshop.training.prepare import Prepared
from pantry.workshop.training.schedule import Budget, rate

PROMPT_WEIGHT = 0.1
"""Weight of the loss on what others say in a conversation: answers are what the model is for."""


@dataclass(frozen=True)
class Progress:
    """What a model has been through. Loss in nats per token; `best` is the least held-out loss, at `best_step`."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    best: float = math.inf
    best_step: int = 0
    evaluations: int = 0


@dataclass(frozen=True)
class HeldOut:
    """Loss on held-out text: nats per token, and bits per byte of text."""

    loss: float
    bits_per_byte: float


def choose_device(name: str) -> str:
    """`auto` is the accelerator if there is one. Raises UsageError for a device that is not there."""
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return next((device for device in ("cuda", "mps") if there[device]), "cpu")
    if name not in there:
        raise UsageError(f"There is no device {name!r}.", hint="Known: auto, cpu, cuda, mps.")
    if not there[name]:
        found = ", ".join(device for device, is_there in there.items() if is_there)
        raise UsageError(f"This machine, or this build of torch, has no device {name!r}.", hint=f"There is: {found}.")
    return name


class Trainer:
    """One training: the network, its optimisers and how far they are. Every process of `group` has one."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        data: Prepared,
        device: str = "cpu",
        budget: Budget | None = None,
        group: Group | None = None,
    ):
        self.recipe, self.data, self.device, self.group = recipe, data, device, group or Group()
        check_parts(recipe, self.group)
        self.shape = recipe.shape(data.vocab)
        self.budget = budget or Budget(recipe.token_budget(self.shape.parameters), recipe.minutes)
        with _memory_errors():
            self.model = build_model(self.shape, recipe.seed).to(device)
            self._network = spread(self.model, recipe, self.group, device)
            self._learning = compiled(self._network, recipe, device)
            self.optimisers = build_optimisers(self.model, recipe)
        self.progress = Progress()
        self._bf16 = recipe.precision == "bf16" or (recipe.precision == "auto" and device == "cuda")

    @property
    def done(self) -> float:
        """Share of the budget that is used up."""
        return self.budget.done(self.progress.tokens, self.progress.seconds)

    def step(self) -> float:
        """Learn from one batch; returns its loss. Raises TrainingError when the numbers run away."""
        began = time.perf_counter()
        share = rate(self.recipe, self.done)
        with _memory_errors():
            loss = self._gradients()
            norm = float(whole(torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingError(
                f"The training ran away at step {self.progress.step + 1}: the loss is {loss}, the gradient {norm:.3g}.",
                hint=f"Lower learning_rate (it is {self.recipe.learning_rate}), or raise warm_up.",
            )
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.recipe.learning_rate * share
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        before, seconds = self.progress, time.perf_counter() - began
        self.progress = replace(
            before,
            step=before.step + 1,
            tokens=before.tokens + self.recipe.step_tokens,
            seconds=before.seconds + self.group.total(seconds if self.group.main else 0.0)[0],
            loss=loss if math.isnan(before.loss) else 0.95 * before.loss + 0.05 * loss,
        )
        return loss

    def _gradients(self) -> float:
        """Gradients of one batch, left in the parameters; its mean loss. Each process takes its part of each part."""
        recipe, group = self.recipe, self.group
        starts = training_windows(
            len(self.data.train), recipe.context, recipe.seed, self.progress.step * recipe.batch, recipe.batch
        )
        ids, own = self.data.train.windows(starts, recipe.context + 1)
        weights = None if own is None else _weights(own[:, 1:])
        count = float(recipe.step_tokens if weights is None else weights.sum())
        total = torch.zeros((), device=self.device)
        each = recipe.batch // recipe.accumulate
        mine = each // group.world
        for at in range(0, recipe.batch, each):
            here = slice(at + group.rank * mine, at + (group.rank + 1) * mine)
            part = torch.from_numpy(ids[here]).to(self.device)
            weight = None if weights is None else torch.from_numpy(weights[here]).to(self.device)
            with gradients_stay(self._network, last=at + each == recipe.batch):
                loss = self._loss(self._learning, part, weight) / count
                # The processes' gradients are averaged; wanted is their sum.
                (loss * group.world).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        return group.total(float(total))[0]

    def _loss(self, network: Network, ids: Tensor, weight: Tensor | None) -> Tensor:
        """The summed loss over windows (windows, length + 1), each token's weighted by `weight` (windows, length)."""
        with self._autocast():
            logits = network(ids[:, :-1])
        targets = ids[:, 1:].reshape(-1)
        logits = logits.reshape(-1, logits.shape[-1]).float()
        if weight is None:
            return F.cross_entropy(logits, targets, reduction="sum")
        return (F.cross_entropy(logits, targets, reduction="none") * weight.reshape(-1)).sum()

    def _autocast(self) -> contextlib.AbstractContextManager[object]:
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self._bf16)

    @torch.no_grad()
    def evaluate(self, limit: int | None = None) -> HeldOut:
        """Loss on the model's own words in the first `limit` held-out tokens (else the recipe's number)."""
        data = self.data.validation
        length = min(self.recipe.context, len(data) - 1)
        count = max(1, min((len(data) - 1) // length, (limit or self.recipe.evaluate_tokens) // length))
        each = max(1, self.recipe.batch // self.recipe.accumulate)
        total, words = 0.0, 0
        for first in range(0, count, each):
            starts = np.arange(first, min(first + each, count)) * length
            ids, own = data.windows(starts, length + 1)
            mine = np.ones(ids[:, 1:].shape, bool) if own is None else own[:, 1:]
            weight = torch.from_numpy(mine.astype(np.float32)).to(self.device)
            total += float(self._loss(self.model, torch.from_numpy(ids).to(self.device), weight))
            words += int(mine.sum())
        loss = self.group.total(total / max(1, words) if self.group.main else 0.0)[0]
        own_words = len(data) if data.own is None else int(data.own.sum())
        return HeldOut(loss, loss * own_words / max(1, self.data.validation_bytes) / math.log(2))

    def note_evaluation(self, held_out: HeldOut) -> bool:
        """Remember the result; whether it is the best so far."""
        better = held_out.loss < self.progress.best
        self.progress = replace(self.progress, evaluations=self.progress.evaluations + 1)
        if better:
            self.progress = replace(self.progress, best=held_out.loss, best_step=self.progress.step)
        return better

    def save(self, path: Path) -> None:
        """Write a checkpoint, in the main process; it appears when whole. Raises StorageError."""
        model = whole(self.model.state_dict())
        optimisers = [whole(optimiser.state_dict()) for optimiser in self.optimisers]
        if not self.group.main:
            return
        save_checkpoint(
            path,
            {
                "recipe": self.recipe.model_dump(),
                "data": self.data.data_digest,
                "budget": asdict(self.budget),
                "progress": asdict(self.progress),
                "model": model,
                "optimisers": optimisers,
            },
        )

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint. Raises ConflictError that lists what differs from the run that made it."""
        content = load_checkpoint(path)
        check_same_run(content, self.recipe, self.data.data_digest)
        self.restore(content)
        for optimiser, state in zip(self.optimisers, content["optimisers"], strict=True):
            load_optimiser(optimiser, state)
        self.progress = Progress(**content["progress"])

    def restore(self, content: dict[str, Any]) -> None:
        """Put the weights of a checkpoint into the network."""
        load_model(self.model, content["model"])

    def gather(self) -> None:
        """Make the model whole in this process, to export it; there is no step after that."""
        if self.group.world == 1:
            return
        weights = whole(self.model.state_dict())
        self.model = build_model(self.shape, self.recipe.seed).to(self.device)
        self.model.load_state_dict(weights)


def check_same_run(content: dict[str, Any], recipe: TrainingRecipe, data: str) -> None:
    """Raises ConflictError that lists the settings in which a checkpoint differs from the recipe and the data."""
    different = recipe.differences(content["recipe"])
    if content["data"] != data:
        different.append(f"the data: {content['data'][:19]}… -> {data[:19]}…")
    if different:
        raise ConflictError(
            "The recipe has changed since the checkpoint was written:\n  " + "\n  ".join(different),
            hint="Undo the change, or begin anew with --fresh.",
        )


def _weights(own: np.ndarray) -> np.ndarray:
    return np.where(own, np.float32(1.0), np.float32(PROMPT_WEIGHT))


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_memory(str(error)) from None
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise _no_memory(str(error)) from None


def _no_memory(said: str) -> MemoryBudgetError:
    return MemoryBudgetError(
        f"The memory is used up: {said.splitlines()[0][:200] if said else 'nothing more is known'}",
        hint="Raise accumulate, or lower batch, context or the sizes of the model; see: pantry train --plan",
    )
