"""How fast an engine is here: a worker of its own, one prompt, one answer, on our clock."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass

from pantry.core.errors import EngineError
from pantry.core.paths import Paths
from pantry.core.settings import Settings
from pantry.engines.adapter import ENGINES, LoadOptions, ModelFiles
from pantry.engines.worker import Worker

PROMPT = "The fox and the lantern. " * 30
TOKENS = 128
ROUNDS = 3


@dataclass(frozen=True)
class EngineSpeed:
    """Medians of a few rounds: prompt tokens read per second, tokens generated per second."""

    prompt: float
    generation: float


async def measure_engine(
    engine: str, model: ModelFiles, options: LoadOptions, settings: Settings, paths: Paths
) -> EngineSpeed:
    """Measure `engine` with `model`; as a worker of this home. Raises EngineError when it does not run."""
    socket = paths.run / f"m-{engine}-{os.getpid()}.sock"
    command = ENGINES.get(engine).command(model, options, socket, settings)
    worker = await Worker.start(engine, command, socket, paths.logs / f"measure-{engine}.log", settings.load_timeout)
    try:
        rounds = [await _round(worker, number) for number in range(ROUNDS + 1)][1:]  # the first one warms up
    finally:
        await worker.stop()
    middle = ROUNDS // 2
    return EngineSpeed(sorted(r.prompt for r in rounds)[middle], sorted(r.generation for r in rounds)[middle])


async def _round(worker: Worker, number: int) -> EngineSpeed:
    """One prompt that no earlier round has cached, and exactly TOKENS generated tokens."""
    body = {
        "prompt": f"{number}. {PROMPT}",
        "max_tokens": TOKENS,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    start = time.perf_counter()
    first, usage = 0.0, {"prompt_tokens": 0, "completion_tokens": 0}
    async with await worker.post("/v1/completions", body) as response:
        if response.status != 200:
            raise EngineError(f"{worker.name} answered with status {response.status}.")
        async for line in response.content:
            if line.startswith(b"data: {"):
                event = json.loads(line[6:])
                if not first and event.get("choices"):  # its text may be empty: a special token counts as well
                    first = time.perf_counter()
                usage = event.get("usage") or usage
    end = time.perf_counter()
    if not first or usage["completion_tokens"] < 2:
        raise EngineError(f"{worker.name} generated nothing to measure.")
    return EngineSpeed(usage["prompt_tokens"] / (first - start), (usage["completion_tokens"] - 1) / (end - first))
