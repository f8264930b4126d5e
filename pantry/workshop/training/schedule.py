"""The learning rate over a training, and when a training is over."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pantry.workshop.recipe import TrainingRecipe

FIRST_RATE = 0.02
"""Share of the peak that the first step has."""
LAST_RATE = 0.1
"""Share of the peak at the end of a cosine schedule."""


@dataclass(frozen=True)
class Budget:
    """How long to train: tokens, minutes of wall time, or both (what comes first)."""

    tokens: int | None = None
    minutes: float | None = None

    def done(self, tokens: int, seconds: float) -> float:
        """The share of the budget that is used up, 0 to 1."""
        shares = [tokens / self.tokens] if self.tokens else []
        shares += [seconds / 60 / self.minutes] if self.minutes else []
        return min(1.0, max(shares, default=1.0))


def rate(recipe: TrainingRecipe, done: float) -> float:
    """Share of the peak learning rate after the share `done`: up in a line, then stable and down, or a cosine."""
    if done < recipe.warm_up:
        return FIRST_RATE + (1 - FIRST_RATE) * done / recipe.warm_up
    if recipe.schedule == "cosine":
        along = (done - recipe.warm_up) / (1 - recipe.warm_up)
        return LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * min(1.0, along))) / 2
    return max(0.0, min(1.0, (1 - done) / recipe.decay))
