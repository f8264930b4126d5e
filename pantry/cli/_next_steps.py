"""What `make run` prints after the first answer: python -m pantry.cli._next_steps COMMAND."""

from __future__ import annotations

import sys

from pantry.core.paths import find_paths
from pantry.operations.service import find_service


def main(command: str) -> None:
    info = find_service(find_paths())
    where = f"Pantry runs at {info.url}" if info else "Pantry does not run"
    print(f"""
{where}. What to do next:

  {command} chat starter                talk with the small model that came along
  {command} add FILE.gguf               add a model of your own
  eval "$({command} env)"               point any OpenAI client at Pantry
  {command} doctor                      what this machine can run, and how fast
  {command} down                        stop the service""")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "pantry")
