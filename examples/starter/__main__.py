"""Make the starter model from nothing: `python -m examples.starter [--minutes 60] [--key KEY.pem]`."""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", default="60", help="time for the training itself")
    parser.add_argument("--key", help="private key that signs it, as PEM; one is made for this once without")
    options = parser.parse_args()
    sign = ["pack", "--gguf", "build/starter/starter.gguf", *(["--key", options.key] if options.key else [])]
    for step in (["generate"], ["train", "--minutes", options.minutes], ["export"], ["evaluate"], sign):
        subprocess.run([sys.executable, "-m", f"examples.starter.{step[0]}", *step[1:]], check=True)


if __name__ == "__main__":
    main()
