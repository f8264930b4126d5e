"""Write conversations to train on: `python -m examples.assistant.make_data [--megabytes 8]`. Same seed, same bytes."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from examples.starter.generate import training_documents
from pantry.core.files import staged_file

HERE = Path(__file__).parent


def lines(seed: int, size: int) -> Iterator[str]:
    """Chat JSONL: one conversation a line, as `messages` with role and content."""
    for document in training_documents(seed, size):
        if document[0][0] != "text":
            messages = [{"role": role, "content": text} for role, text in document]
            yield json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "data" / "chat.jsonl")
    options = parser.parse_args()
    with staged_file(options.out) as file:
        for line in lines(options.seed, int(options.megabytes * 1e6)):
            file.write(line.encode())
    print(options.out)


if __name__ == "__main__":
    main()
