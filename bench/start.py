"""Cold start, idle memory, and how long the command line takes to say anything: `python -m bench.start`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench._report import machine, median, print_table, verdict
from tests.service.running import AS_INSTALLED, Service, starting

PANTRY = [str(Path(sys.executable).parent / "pantry")]
ROUNDS = 7


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def first_byte(service: Service) -> float:
    """Seconds from the start of `pantry run starter` to the first byte of its answer."""
    command = [*PANTRY, "run", "starter", "Tell me a story about a fox."]
    start = time.perf_counter()
    with subprocess.Popen(command, env=service.environment, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.read(1)
        took = time.perf_counter() - start
        process.stdout.read()
    return took


def start_rows() -> list[list[str]]:
    new, cold, warm = [], [], []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            service = Service(Path(folder) / "home", program=AS_INSTALLED)
            new.append(first_byte(service))
            warm.append(first_byte(service))
            subprocess.run([*PANTRY, "down"], env=service.environment, check=True, capture_output=True)
            cold.append(first_byte(service))
            subprocess.run([*PANTRY, "down"], env=service.environment, check=True, capture_output=True)
    return [
        ["first token: new home, no service", f"{median(new):.2f} s", "", ""],
        ["first token: no service", f"{median(cold):.2f} s", "", ""],
        ["first token: service and model ready", f"{median(warm):.2f} s", "", ""],
    ]


def memory_rows() -> list[list[str]]:
    with (
        tempfile.TemporaryDirectory() as folder,
        starting(Service(Path(folder) / "home", program=AS_INSTALLED)) as service,
    ):
        idle = psutil.Process(service.pid).memory_info().rss / 1e6
        body = {"model": "starter", "prompt": "Once", "max_tokens": 20}
        for _ in range(200):
            service.ask("POST", "/v1/completions", body)
        used = psutil.Process(service.pid).memory_info().rss / 1e6
    return [
        ["gateway, idle after its start", f"{idle:.0f} MB", "≤ 90 MB", verdict(idle, 90, at_most=True)],
        ["gateway, after 200 answers", f"{used:.0f} MB", "≤ 90 MB", verdict(used, 90, at_most=True)],
    ]


def command_rows() -> list[list[str]]:
    commands = {
        "base": [sys.executable, "-c", "pass"],
        "typer": [sys.executable, "-c", "import typer"],
        "version": [*PANTRY, "--version"],
        "help": [*PANTRY, "--help"],
    }
    took: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(ROUNDS * 3):
        for name, command in commands.items():
            took[name].append(seconds(command) * 1000)
    ms = {name: median(times) for name, times in took.items()}
    rows = [["python -c pass; with typer imported", f"{ms['base']:.0f} ms; {ms['typer']:.0f} ms", "", ""]]
    for name, limit in (("version", 1.0), ("help", 3.0)):
        ratio = ms[name] / ms["typer"]
        rows.append(
            [f"pantry --{name}", f"{ms[name]:.0f} ms, {ratio:.2f}×", f"≤ {limit}×", verdict(ratio, limit, at_most=True)]
        )
    return rows


def main() -> None:
    rows = [*start_rows(), *memory_rows(), *command_rows()]
    print_table("Start, memory, command line", ["", "measured", "target", ""], rows, f"{machine()}; medians.")


if __name__ == "__main__":
    main()
