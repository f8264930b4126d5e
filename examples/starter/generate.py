"""Write the corpus: `python -m examples.starter.generate --out build/starter --mb 40 --seed 1`.

Two files of JSON lines, `train.jsonl` and `held_out.jsonl`. A line is a document: a list of
[role, text] pairs; the role "text" marks plain prose without a conversation around it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator
from pathlib import Path

from .corpus import (
    about_pantry,
    comparisons,
    kinds,
    knowledge,
    lists_and_numbers,
    rewriting,
    scenes,
    small_talk,
    stories,
)
from .corpus.turn import Family, Turn, bare, draw, is_held_out

FACT_ROOMS = (comparisons, kinds, knowledge)
ROOMS = (*FACT_ROOMS, lists_and_numbers, scenes, rewriting, about_pantry, small_talk, stories)
FAMILIES: tuple[tuple[Family, float], ...] = tuple(pair for room in ROOMS for pair in room.FAMILIES)
FACT_FAMILIES = tuple(family for room in FACT_ROOMS for family, _ in room.FAMILIES)
STORY_FAMILIES = tuple(family for family, _ in stories.FAMILIES[:3])
SYSTEM = (
    "You are a helpful assistant.",
    "You are the starter model of Pantry.",
    "Answer in one sentence.",
    "You are a friendly helper.",
    "Be kind and brief.",
    "Answer the question.",
    "You answer plain questions.",
    "Help the user.",
)

Document = list[tuple[str, str]]


def _family(rng: random.Random) -> Family:
    return rng.choices([f for f, _ in FAMILIES], [weight for _, weight in FAMILIES])[0]


def _training_pair(rng: random.Random) -> tuple[Turn, Turn]:
    while True:
        said, question = small_talk.remember(rng)
        if not is_held_out(said) and not is_held_out(question):
            return said, question


def conversation(rng: random.Random) -> Document:
    """One to six turns, now and then with a system message, sometimes with something to remember in between."""
    document: Document = []
    if rng.random() < 0.25:
        document.append(("system", rng.choice(SYSTEM)))
    turns = [draw(_family(rng), rng, held_out=False) for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4, 5, 6)))]
    if len(turns) > 1 and rng.random() < 0.2:
        said, question = _training_pair(rng)
        turns = [said, *(turn for turn in turns[:2] if turn.family not in ("greet", "tell")), question]
    room = 1700
    for number, turn in enumerate(turns):
        room -= len(turn.user) + len(turn.answer)
        if room < 0 and number:
            break
        document += [("user", turn.user), ("assistant", turn.answer)]
    return document


def prose(rng: random.Random) -> Document:
    """A story or a few plain sentences with no question before them."""
    if rng.random() < 0.6:
        return [("text", draw(rng.choice(STORY_FAMILIES), rng, held_out=False).answer)]
    facts = [draw(rng.choice(FACT_FAMILIES), rng, held_out=False).answer for _ in range(rng.randint(2, 5))]
    return [("text", " ".join(facts))]


def training_documents(seed: int, limit: int) -> Iterator[Document]:
    """Documents until their JSON lines reach `limit` bytes. The same seed writes the same bytes on every machine."""
    rng = random.Random(f"train-{seed}")
    written = 0
    while written < limit:
        document = prose(rng) if rng.random() < 0.04 else conversation(rng)
        written += len(encode(document))
        yield document


def held_out_turns(seed: int, per_family: int) -> Iterator[Turn]:
    """Questions whose combination of facts is nowhere in the training text, `per_family` of each family."""
    rng = random.Random(f"held-out-{seed}")
    for family, _ in FAMILIES:
        seen: set[str] = set()
        for _ in range(per_family * 20):
            turn = draw(family, rng, held_out=True)
            if turn.user not in seen:
                seen.add(turn.user)
                yield turn
            if len(seen) == per_family:
                break


def held_out_memories(seed: int, count: int) -> list[tuple[Turn, Turn]]:
    """Pairs of turns, something said and the question about it, whose combination is nowhere in the training text."""
    rng = random.Random(f"memories-{seed}")
    pairs: list[tuple[Turn, Turn]] = []
    while len(pairs) < count:
        said, question = small_talk.remember(rng)
        if is_held_out(question):
            pairs.append((said, question))
    return pairs


def questions_in(path: Path) -> set[str]:
    """Every question of a text file written here, in its bare form."""
    with path.open(encoding="utf-8") as lines:
        return {bare(text) for line in lines for role, text in json.loads(line) if role == "user"}


def encode(document: Document) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def write(folder: Path, seed: int, megabytes: float, per_family: int) -> dict[str, str]:
    """Write both files; returns the SHA-256 of each by name."""
    folder.mkdir(parents=True, exist_ok=True)
    held = ([("user", t.user), ("assistant", t.answer)] for t in held_out_turns(seed, per_family))
    digests = {}
    for name, documents in (("train.jsonl", training_documents(seed, int(megabytes * 1e6))), ("held_out.jsonl", held)):
        digest = hashlib.sha256()
        with (folder / name).open("wb") as out:
            for document in documents:
                line = encode(document)
                digest.update(line)
                out.write(line)
        digests[name] = digest.hexdigest()
    return digests


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/starter"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--mb", type=float, default=40.0, help="size of the training text, 10^6 bytes")
    parser.add_argument("--per-family", type=int, default=60, help="held-out questions of each family")
    options = parser.parse_args()
    for name, digest in write(options.out, options.seed, options.mb, options.per_family).items():
        print(f"{digest}  {name}  {(options.out / name).stat().st_size} bytes")


if __name__ == "__main__":
    main()
