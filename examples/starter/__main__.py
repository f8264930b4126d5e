"""Make the starter model from nothing: `python -m examples.starter [--minutes 60]`."""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", default="60", help="time for the training itself")
    minutes = parser.parse_args().minutes
    for step in (["generate"], ["train", "--minutes", minutes], ["export"], ["evaluate"]):
        subprocess.run([sys.executable, "-m", f"examples.starter.{step[0]}", *step[1:]], check=True)


if __name__ == "__main__":
    main()
