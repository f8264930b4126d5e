"""What is done before torch is imported."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytest.importorskip("torch")

ONE_CORE = """
import os, time
from pantry.workshop.training.extra import require_training
require_training()
import torch

def seconds(threads):
    torch.set_num_threads(threads)
    times = []
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(100):
            (left @ right).exp_().sum()
        times.append(time.perf_counter() - began)
    return min(times)

left, right = torch.randn(256, 256), torch.randn(256, 256)
seconds(2)
core = min(os.sched_getaffinity(0))
for task in os.listdir("/proc/self/task"):
    os.sched_setaffinity(int(task), {core})
print(seconds(2) / seconds(1))
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot put threads on one core here")
def test_two_threads_that_share_a_core_do_not_keep_it_from_each_other() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run([sys.executable, "-c", ONE_CORE], env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8
