"""The gateway against the engine's own listener: `python -m bench.gateway [--rounds N]`.

Method: one service, one loaded starter model, one worker. The same requests go to the worker's socket and to the
gateway's socket in turn, round by round, so that the machine's other work meets both alike; the ratio is of medians.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from bench._report import machine, median, print_table, verdict
from bench._streams import Target, stream, tokens_per_second
from tests.service.running import Service, starting

PATH = "/v1/completions"
ENDS = {"0": -100, "1": -100, "2": -100}
"""The starter's end marks, forbidden, so that every answer has the same length."""
BODY = {"model": "starter", "prompt": "Once", "max_tokens": 440, "temperature": 1, "logit_bias": ENDS}


async def measure(service: Service, rounds: int) -> list[list[str]]:
    (socket,) = service.paths.run.glob("w-*.sock")
    engine, gateway = Target(str(socket)), Target(str(service.paths.socket))
    rows = []
    for streams in (1, 4, 16):
        speeds: dict[Target, list[float]] = {engine: [], gateway: []}
        for _ in range(rounds):
            for target in (engine, gateway):
                speeds[target].append(await tokens_per_second(target, PATH, BODY, streams))
        direct, through = median(speeds[engine]), median(speeds[gateway])
        ratio = through / direct
        rows.append(
            [f"tokens/s, {streams} streams", f"{direct:.0f}", f"{through:.0f}", f"{ratio:.3f}", "≥ 0.97",
             verdict(ratio, 0.97, at_most=False)]
        )  # fmt: skip
    firsts: dict[Target, list[float]] = {engine: [], gateway: []}
    for _ in range(rounds * 10):
        for target in (engine, gateway):
            firsts[target].append((await stream(target, PATH, {**BODY, "max_tokens": 2}))[0] * 1000)
    direct, through = median(firsts[engine]), median(firsts[gateway])
    added = through - direct
    rows.append(
        ["first token, ms", f"{direct:.2f}", f"{through:.2f}", f"+{added:.2f}", "≤ +2", verdict(added, 2, at_most=True)]
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, starting(Service(Path(folder) / "home")) as service:
        service.ask("POST", "/admin/load", {"model": "starter", "pin": True})
        rows = asyncio.run(measure(service, rounds))
    columns = ["", "engine's listener", "through the gateway", "ratio", "target", ""]
    print_table("Gateway against the engine's own listener", columns, rows, f"{machine()}; medians of {rounds} rounds.")


if __name__ == "__main__":
    main()
