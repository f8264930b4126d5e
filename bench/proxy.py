"""The gateway against the LiteLLM proxy in front of the same engine: `python -m bench.proxy [--rounds N]`.

Method: the starter model behind one worker of the service. The LiteLLM proxy (one worker process, its default) is
pointed at the same worker through a byte-for-byte forwarder from TCP to the worker's Unix socket; the gateway uses the
socket. Requests ask for one token. Latency is of one client, minus that of the engine asked directly; the rate is of
eight clients at once.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from bench._peers import peer
from bench._report import machine, median, print_table, verdict
from bench._streams import Target, whole
from tests.service.running import AS_INSTALLED, Service, free_port, starting

PATH = "/v1/chat/completions"
BODY = {"model": "starter", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1, "temperature": 0}
CLIENTS = 8

FORWARDER = """
import asyncio, sys
async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()
async def serve(reader, writer):
    upstream, downstream = await asyncio.open_unix_connection(sys.argv[2])
    await asyncio.gather(copy(reader, downstream), copy(upstream, writer))
async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""


@contextlib.contextmanager
def litellm_proxy(socket: Path, folder: Path) -> Iterator[Target]:
    """The LiteLLM proxy before the worker's socket, ready for requests."""
    forward, port = free_port(), free_port()
    config = folder / "litellm.yaml"
    config.write_text(
        f"model_list:\n  - model_name: starter\n    litellm_params:\n      model: openai/starter\n"
        f"      api_base: http://127.0.0.1:{forward}/v1\n      api_key: none\n"
    )
    command = [peer("litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    key = "sk-measuring-on-loopback-only"
    variables = {**os.environ, "LITELLM_MASTER_KEY": key, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    log = (folder / "litellm.log").open("wb")
    with (
        subprocess.Popen([sys.executable, "-c", FORWARDER, str(forward), str(socket)]) as forwarder,
        subprocess.Popen(command, stdout=log, stderr=log, env=variables) as proxy,
    ):
        try:
            target = Target(port=port, key=key)
            deadline = time.monotonic() + 120
            while True:
                try:
                    asyncio.run(whole(target, PATH, BODY))
                    break
                except (OSError, RuntimeError):
                    if time.monotonic() > deadline or proxy.poll() is not None:
                        raise
                    time.sleep(0.5)
            yield target
        finally:
            proxy.terminate()
            forwarder.terminate()


async def latency(targets: list[Target], rounds: int) -> list[float]:
    """Median milliseconds of each target, asked in turn."""
    took: list[list[float]] = [[] for _ in targets]
    for _ in range(rounds):
        for number, target in enumerate(targets):
            took[number].append(await whole(target, PATH, BODY) * 1000)
    return [median(each) for each in took]


async def rate(target: Target, seconds: float) -> float:
    """Whole answers a second with CLIENTS clients, each asking again at once."""
    end = time.perf_counter() + seconds
    done = 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await whole(target, PATH, BODY)
            done += 1

    start = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return done / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    with (
        tempfile.TemporaryDirectory() as folder,
        starting(Service(Path(folder) / "home", program=AS_INSTALLED)) as service,
    ):
        service.ask("POST", "/admin/load", {"model": "starter", "pin": True})
        (socket,) = service.paths.run.glob("w-*.sock")
        engine, gateway = Target(str(socket)), Target(port=service.port, key=service.key)
        with litellm_proxy(socket, Path(folder)) as proxy:
            asyncio.run(latency([engine, gateway, proxy], 10))
            direct, ours, theirs = asyncio.run(latency([engine, gateway, proxy], rounds))
            rates = [asyncio.run(rate(target, 5)) for target in (engine, gateway, proxy)]
    share, times = (ours - direct) / (theirs - direct), rates[1] / rates[2]
    rows = [
        ["added latency, ms", f"({direct:.2f})", f"{ours - direct:.2f}", f"{theirs - direct:.2f}", f"{share:.2f}",
         "≤ 0.25", verdict(share, 0.25, at_most=True)],
        ["requests/s, 8 clients", f"({rates[0]:.0f})", f"{rates[1]:.0f}", f"{rates[2]:.0f}", f"{times:.1f}",
         "≥ 4", verdict(times, 4, at_most=False)],
    ]  # fmt: skip
    columns = ["", "engine alone", "Pantry", "LiteLLM proxy", "ratio", "target", ""]
    print_table("Overhead against the LiteLLM proxy", columns, rows, f"{machine()}; {rounds} requests in turn.")


if __name__ == "__main__":
    main()
