"""What this machine offers to models: memory, its speed, a graphics card."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from dataclasses import dataclass

from pantry.core.files import write_atomically
from pantry.core.paths import Paths
from pantry.core.settings import Settings

_PROBE = 64_000_000  # bytes copied to measure the memory


@dataclass(frozen=True)
class Machine:
    """This machine: bytes of memory in all and free, of graphics memory if any, and bytes per second it can read."""

    memory: int
    free: int
    bandwidth: float
    vram: int = 0
    gpu: str | None = None


def machine_facts(paths: Paths, *, vram: int | None = None) -> Machine:
    """What this machine offers. The memory's speed is measured once and kept; `vram` overrides a detected card."""
    import psutil

    memory = psutil.virtual_memory()
    name, found = (None, vram) if vram is not None else detect_gpu()
    return Machine(memory.total, memory.available, memory_speed(paths), found, name)


def model_room(settings: Settings) -> int:
    """Bytes of memory that loaded models may take together: the setting, or three quarters of the machine's."""
    import psutil

    return settings.memory_budget or int(psutil.virtual_memory().total * 0.75)


def detect_gpu() -> tuple[str | None, int]:
    """Name and free bytes of the first NVIDIA card, by the driver's own tool; (None, 0) when there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None, 0
    query = [tool, "--query-gpu=name,memory.free", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()
        name, _, free = lines[0].rpartition(",")
        return name.strip(), int(free) * 1024**2
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None, 0


def memory_speed(paths: Paths) -> float:
    """Bytes per second that one core reads from memory: best of five copies, kept in `machine.json`."""
    file = paths.data / "machine.json"
    try:
        kept = json.loads(file.read_text())["bandwidth"]
        if isinstance(kept, (int, float)) and kept > 0:
            return float(kept)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    import numpy

    source, target = numpy.ones(_PROBE, dtype=numpy.uint8), numpy.empty(_PROBE, dtype=numpy.uint8)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        numpy.copyto(target, source)
        best = min(best, time.perf_counter() - start)
    measured = 2 * _PROBE / best  # every byte is read and written
    write_atomically(file, json.dumps({"bandwidth": measured}).encode())
    return measured
