"""One process of a training under torchrun: `parallel_worker FOLDER SETTINGS STOP_AT fresh|resume`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from pantry.workshop.recipe import RecipeFolder, make_recipe
from pantry.workshop.training.run import Places, train
from tests.workshop.training.test_run import Seen

if __name__ == "__main__":
    folder, settings, stop_at, how = sys.argv[1:]
    torch.set_num_threads(1)
    recipe = RecipeFolder(
        folder=Path(folder), name="tiny", data=("data",), settings=make_recipe(json.loads(settings))
    )  # fmt: skip
    try:
        train(recipe, Places.beside(recipe.folder), Seen(int(stop_at)), resume=how == "resume", fresh=how == "fresh")
    except KeyboardInterrupt:
        print("stopped")
