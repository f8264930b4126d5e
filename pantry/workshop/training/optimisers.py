"""The optimisers: Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pantry.workshop.recipe import TrainingRecipe
from pantry.workshop.training.model import Llama

BETAS = (0.9, 0.95)
MOMENTUM = 0.95


def build_optimisers(model: Llama, recipe: TrainingRecipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) with steps of AdamW's size (Liu et al. 2025), so that both share one learning rate."""
    named = list(model.named_parameters())
    matrices = [parameter for name, parameter in named if parameter.ndim == 2 and name.startswith("blocks.")]
    others = [parameter for name, parameter in named if not (parameter.ndim == 2 and name.startswith("blocks."))]
    peak, decay = recipe.learning_rate, recipe.weight_decay
    plain = {"params": others, "weight_decay": 0.0}
    if recipe.optimiser == "adamw":
        decayed = {"params": matrices, "weight_decay": decay}
        return [torch.optim.AdamW([decayed, plain], lr=peak, betas=BETAS, fused=True)]
    return [build_muon(matrices, peak, decay), torch.optim.AdamW([plain], lr=peak, betas=BETAS, fused=True)]


def build_muon(matrices: list[nn.Parameter], peak: float, decay: float) -> torch.optim.Optimizer:
    """Muon for matrices that are all on one device."""
    kind = ProcessorMuon if matrices[0].device.type == "cpu" else torch.optim.Muon
    return kind(matrices, lr=peak, weight_decay=decay, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")


class ProcessorMuon(torch.optim.Muon):
    """torch's Muon in float32. That one works in bfloat16, for which most processors have no instructions: on them it
    took seven tenths of a step. State and settings are the same, so that a checkpoint serves both."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of all parameters that have a gradient; `closure` is not called."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._learn(parameter, parameter.grad, group)

    def _learn(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        momentum: Tensor = state["momentum_buffer"]
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(momentum, group["momentum"]), group)
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-0.2 * math.sqrt(max(parameter.shape)) * group["lr"])


def orthogonal(matrix: Tensor, group: dict[str, Any]) -> Tensor:
    """About U V^T of `matrix` = U S V^T, by steps of Newton and Schulz with the coefficients in `group`."""
    a, b, c = group["ns_coefficients"]
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
