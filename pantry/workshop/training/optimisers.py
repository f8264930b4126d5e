"""The optimisers: Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all."""

from __future__ import annotations

import torch

from pantry.workshop.training.model import Llama
from pantry.workshop.training.recipe import TrainingRecipe

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
        return [torch.optim.AdamW([decayed, plain], lr=peak, betas=BETAS)]
    muon = torch.optim.Muon(matrices, lr=peak, weight_decay=decay, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW([plain], lr=peak, betas=BETAS)]
