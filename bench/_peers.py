"""The environment of the programs that the measurements compare with: .venv-peers, made when one asks for it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

PINS = Path(__file__).with_name("peers.txt")
ENVIRONMENT = Path(__file__).parent.parent / ".venv-peers"


def peer(program: str) -> str:
    """The path of a program of the peers' environment, which is made first where it is missing or stale.

    That takes about two minutes and a package index. Raises subprocess.CalledProcessError when it cannot be made.
    """
    digest = hashlib.sha256(PINS.read_bytes()).hexdigest()
    made_from = ENVIRONMENT / "made-from"
    if not made_from.exists() or made_from.read_text() != digest:
        print(f"Installing what is compared with into {ENVIRONMENT} (once, about two minutes) ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], check=True)
        pip = [str(ENVIRONMENT / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "--quiet"]
        subprocess.run([*pip, "install", "--requirement", str(PINS)], check=True)
        made_from.write_text(digest)
    return str(ENVIRONMENT / "bin" / program)
