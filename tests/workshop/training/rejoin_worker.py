"""One of two processes that join and stop once for each port: `rejoin_worker RANK PORT…`."""

from __future__ import annotations

import contextlib
import os
import sys

import torch
from torch import nn

from pantry.workshop.recipe import make_recipe
from pantry.workshop.training.parallel import joined, spread
from tests.workshop.conftest import TINY


def stop_in_the_middle() -> None:
    with joined("cpu") as group:
        network = spread(nn.Linear(4, 4), make_recipe({**TINY, "parallel": "ddp"}), group, "cpu")  # type: ignore[arg-type]
        network(torch.ones(2, 4)).sum().backward()
        group.total(1.0)
        raise KeyboardInterrupt


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, *ports = sys.argv[1:]
    os.environ.update(WORLD_SIZE="2", RANK=rank, MASTER_ADDR="127.0.0.1")
    for port in ports:
        os.environ["MASTER_PORT"] = port
        with contextlib.suppress(KeyboardInterrupt):
            stop_in_the_middle()
    print("ended")
