"""Several processes that train one model, as `torchrun` starts them: each learns from its part of every batch.

With `parallel = "ddp"` each process has the whole model and its optimiser; with "fsdp" each has a part of them
(torch's `fully_shard`). Processes talk by gloo on processors and by NCCL between GPUs. Started alone, there is one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from pantry.core.errors import UsageError
from pantry.workshop.recipe import TrainingRecipe
from pantry.workshop.training.model import Llama

# Every group joined here stays until the process ends. Were DDP's reducer its last holder (as after a stop, whose
# traceback holds the network), gloo's threads would be ended by a thread that has the interpreter's lock, for which
# one of them may be waiting to free a tensor: the process would never end.
_GROUPS: list[object] = []


@dataclass(frozen=True)
class Group:
    """The processes of a training, and which of them this is. `local` counts within the machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def main(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def total(self, *numbers: float) -> list[float]:
        """Each number summed over all processes."""
        if self.world == 1:
            return list(numbers)
        sums = torch.tensor(numbers, dtype=torch.float64)
        dist.all_reduce(sums)
        return [float(value) for value in sums]

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set in some process."""
        return [number > 0 for number in self.total(*map(float, flags))]

    def wait(self) -> None:
        """Until every process is here."""
        if self.world > 1:
            dist.barrier()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that `torchrun` started this process in, for the time of the block; alone when nobody did."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Group()
        return
    if device == "mps":
        raise UsageError("Several processes cannot share the device 'mps'.", hint="Start one, without torchrun.")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if device == "cuda":
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    _GROUPS.append(dist.group.WORLD)
    try:
        yield Group(dist.get_rank(), world, local)
    finally:
        dist.destroy_process_group()


def check_parts(recipe: TrainingRecipe, group: Group) -> None:
    """Raises UsageError when the processes cannot share a batch evenly."""
    part = recipe.batch // recipe.accumulate
    if part % group.world:
        raise UsageError(
            f"{group.world} processes cannot share {part} windows evenly (batch / accumulate).",
            hint=f"Set batch to a multiple of {group.world * recipe.accumulate}.",
        )


def spread(model: Llama, recipe: TrainingRecipe, group: Group, device: str) -> nn.Module:
    """The network to call in training. With "fsdp" the parameters of `model` are in parts from here on."""
    if group.world == 1:
        return model
    if recipe.parallel == "ddp":
        places = [group.local] if device == "cuda" else None
        return DistributedDataParallel(
            model, device_ids=places, broadcast_buffers=False, gradient_as_bucket_view=True
        )  # fmt: skip
    mesh = init_device_mesh(device, (group.world,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextlib.contextmanager
def gradients_stay(network: nn.Module, *, last: bool) -> Iterator[None]:
    """Gradients go to the other processes after the last part of a batch only."""
    if isinstance(network, DistributedDataParallel) and not last:
        with network.no_sync():
            yield
        return
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
    yield


def whole(value: Any) -> Any:
    """A state with the parts of every process put together, in this process's memory; all of them must call this."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, dict):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value


def load_model(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put whole weights into a network, in parts where it has parts."""
    model.load_state_dict({name: _like(state[name], value) for name, value in model.state_dict().items()})


def load_optimiser(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put a whole state into an optimiser, in parts where its parameters have parts."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    parts = {
        number: {name: _like(value, parameters[number]) for name, value in content.items()}
        for number, content in state["state"].items()
    }
    optimiser.load_state_dict({**state, "state": parts})


def _like(value: Any, parameter: Tensor) -> Any:
    """`value` cut as `parameter` is, if it has its shape."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements)
