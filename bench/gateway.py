"""The gateway against the engine's own listener: `python -m bench.gateway [--model smollm2] [--tokens N] [--rounds N]`.

Method: one service, one loaded model, one worker; the model is the starter, or SmolLM2-135M-Instruct from a package
index (tests/real_models.py). The same requests go to the worker's socket and to the gateway's socket in turn, round by
round, so that the machine's other work meets both alike; the ratio is the median over the rounds. The processor time
is that of the gateway's process alone, user and system, by the tokens that went through it.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench._report import machine, median, print_table, verdict
from bench._streams import Target, stream, tokens_per_second
from tests.real_models import SMOLLM2, model_file
from tests.service.running import AS_INSTALLED, Service, starting

PATH = "/v1/completions"
ENDS = {"0": -100, "1": -100, "2": -100}
"""The end marks of both models, forbidden, so that every answer has the same length."""
BODY = {"prompt": "Once", "temperature": 1, "logit_bias": ENDS}
LENGTHS = {"starter": 440, "smollm2": 96}
"""Tokens of an answer, by model."""
STREAMS = (1, 4, 16)


def processor_seconds(process: int) -> float:
    """User and system time of a process and its threads; to the nanosecond on Linux, where psutil counts hundredths."""
    if sys.platform == "linux":
        return time.clock_gettime((~process << 3) | 2)  # the clock that clock_getcpuclockid(3) gives
    used = psutil.Process(process).cpu_times()
    return used.user + used.system


async def speed_row(
    service: Service, engine: Target, gateway: Target, body: dict[str, Any], streams: int, rounds: int
) -> list[str]:
    """Tokens a second of both with so many streams at once, and what the gateway's process used for a token."""
    direct, through, used = [], [], 0.0
    for number in range(rounds * 2):
        if number % 4 in (0, 3):  # engine, gateway, gateway, engine: neither is always the first
            direct.append(await tokens_per_second(engine, PATH, body, streams))
            continue
        before = processor_seconds(service.pid)
        through.append(await tokens_per_second(gateway, PATH, body, streams))
        used += processor_seconds(service.pid) - before
    ratio = median([ours / theirs for ours, theirs in zip(through, direct, strict=True)])
    a_token = used / (rounds * streams * body["max_tokens"]) * 1e6
    return [
        f"tokens/s, {streams} streams", f"{median(direct):.0f}", f"{median(through):.0f}", f"{ratio:.3f}",
        "≥ 0.97", verdict(ratio, 0.97, at_most=False), f"{a_token:.0f} µs",
    ]  # fmt: skip


async def first_token_row(engine: Target, gateway: Target, body: dict[str, Any], rounds: int) -> list[str]:
    firsts: dict[Target, list[float]] = {engine: [], gateway: []}
    for _ in range(rounds):
        for target in (engine, gateway):
            firsts[target].append((await stream(target, PATH, {**body, "max_tokens": 2}))[0] * 1000)
    direct, through = median(firsts[engine]), median(firsts[gateway])
    added = through - direct
    return [
        "first token, ms", f"{direct:.2f}", f"{through:.2f}", f"+{added:.2f}", "≤ +2",
        verdict(added, 2, at_most=True), "",
    ]  # fmt: skip


async def measure(service: Service, model: str, tokens: int, rounds: int) -> list[list[str]]:
    (socket,) = service.paths.run.glob("w-*.sock")
    engine, gateway = Target(str(socket)), Target(str(service.paths.socket))
    body = {**BODY, "model": model, "max_tokens": tokens}
    await tokens_per_second(engine, PATH, body, max(STREAMS))  # memory is touched, caches are warm
    rows = [await speed_row(service, engine, gateway, body, streams, rounds) for streams in STREAMS]
    return [*rows, await first_token_row(engine, gateway, body, rounds * 10)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=list(LENGTHS), default="starter")
    parser.add_argument("--tokens", type=int, help="Length of an answer; the starter's 440, SmolLM2's 96.")
    parser.add_argument("--rounds", type=int, default=7)
    wanted = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        starting(Service(Path(folder) / "home", program=AS_INSTALLED)) as service,
    ):
        if wanted.model == "smollm2":
            add = [sys.executable, "-m", "pantry", "add", str(model_file(SMOLLM2)), "--name", "smollm2"]
            subprocess.run(add, env=service.environment, check=True, stdout=subprocess.DEVNULL)
        service.ask("POST", "/admin/load", {"model": wanted.model, "pin": True})
        tokens = wanted.tokens or LENGTHS[wanted.model]
        rows = asyncio.run(measure(service, wanted.model, tokens, wanted.rounds))
    columns = ["", "engine's listener", "through the gateway", "ratio", "target", "", "gateway's processor a token"]
    note = f"{machine()}; medians of {wanted.rounds} rounds."
    print_table(f"Gateway against the engine's own listener, {wanted.model}", columns, rows, note)


if __name__ == "__main__":
    main()
