"""Write short stories to train on: `python -m examples.tales.make_data [--megabytes 4]`. Same seed, same bytes."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from examples.starter.corpus.stories import any_story
from pantry.core.files import write_atomically
from pantry.workshop.data.text_files import DOCUMENT_END

HERE = Path(__file__).parent


def stories(seed: int, size: int) -> str:
    """Stories until there are `size` bytes of them, each followed by a line that ends the document."""
    rng = random.Random(f"tales-{seed}")
    parts: list[str] = []
    written = 0
    while written < size:
        parts.append(f"{any_story(rng).answer}\n{DOCUMENT_END}\n")
        written += len(parts[-1].encode())
    return "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=4.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "data" / "tales.txt")
    options = parser.parse_args()
    write_atomically(options.out, stories(options.seed, int(options.megabytes * 1e6)).encode())
    print(options.out)


if __name__ == "__main__":
    main()
