"""`torch.compile` for the training step: a minute before the first step, faster steps after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from pantry.core.errors import TrainingError, UsageError
from pantry.workshop.recipe import TrainingRecipe

Network = Callable[[Tensor], Tensor]


def compiled(network: nn.Module, recipe: TrainingRecipe, device: str) -> Network:
    """The network, compiled if the recipe says so; `auto` does on CUDA only, where it was worth its minute.

    Raises UsageError where it is asked for and the machine has no compiler.
    """
    if not _wanted(recipe, device):
        return network
    faster = torch.compile(network, dynamic=False)

    def call(ids: Tensor) -> Tensor:
        try:
            logits: Tensor = faster(ids)
        except torch._dynamo.exc.TorchDynamoException as error:
            said = " ".join(str(error).split())[:300]
            raise TrainingError(f"The network could not be compiled: {said}", hint='Set compile = "off".') from None
        return logits

    return call


def _wanted(recipe: TrainingRecipe, device: str) -> bool:
    if recipe.compile == "auto":
        return device == "cuda" and find_spec("triton") is not None
    if recipe.compile == "on" and device == "cpu" and not _compiler():
        raise UsageError(
            "compile = 'on' needs a C++ compiler on a processor, and none was found.",
            hint="Install one, for example: apt install g++; or leave compile at 'auto'.",
        )
    return recipe.compile == "on"


def _compiler() -> str | None:
    """As torch looks for it: the variable CXX, else g++ or clang++."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next(filter(None, map(shutil.which, names)), None)
