"""Measure the exported model as users run it, and write its card: `python -m examples.starter.evaluate`."""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer

from pantry.workshop.training.model import Llama

from . import tokenizer as tok
from .card import card
from .corpus.turn import Turn, bare
from .engine import Engine, Reply
from .export import DEFAULT_TEMPERATURE, load, stored_weights
from .generate import held_out_memories, held_out_turns, questions_in
from .ngram import NGram, padded
from .scoring import is_right

ORDERS = (3, 4, 5)
SAMPLES = (
    "Tell me a story about a fox named Pip by the sea.",
    "Write a short story about a dragon.",
    "What is the opposite of early?",
    "Which is bigger, a mouse or a castle?",
    "Mia has a red ball. Ben has a blue kite. Who has the kite?",
    "What is 7 plus 5?",
    "Put this sentence in the past: Anna sings in the garden.",
    "How do I add my own model?",
    "What is a delta?",
    "Who won the race yesterday?",
)
SAMPLE_SEED = 1


@dataclass(frozen=True)
class Score:
    right: int
    asked: int
    combinations: int = 0
    """How many different combinations of facts the questions are about."""

    @property
    def share(self) -> float:
        return self.right / self.asked


@dataclass(frozen=True)
class Losses:
    """Mean negative log-likelihood, nats a token, on the answers of held-out questions and on their whole text."""

    answers: float
    everything: float
    answer_bits_per_byte: float


def exact_match(
    engine: Engine, turns: Iterable[Turn], *, temperature: float | None = 0.0
) -> tuple[dict[str, Score], Score]:
    """Right answers by family, and how many answers of all ended their turn by themselves."""
    right: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    combinations: dict[str, set[str]] = defaultdict(set)
    ended = 0
    for turn in turns:
        reply = engine.ask(turn.user, temperature=temperature)
        ended += reply.finish == "stop"
        asked[turn.family] += 1
        combinations[turn.family].add(turn.key)
        right[turn.family] += is_right(turn, reply.text) and reply.finish == "stop"
    return {family: Score(right[family], asked[family], len(combinations[family])) for family in asked}, Score(
        ended, asked.total()
    )


def conversation_recall(engine: Engine, pairs: Sequence[tuple[Turn, Turn]]) -> Score:
    """The share of second turns answered right, when the first turn said what is asked for."""
    right = 0
    for said, question in pairs:
        first = engine.ask(said.user)
        history = [("user", said.user), ("assistant", first.text), ("user", question.user)]
        reply = engine.chat([{"role": role, "content": text} for role, text in history])
        right += is_right(question, reply.text) and reply.finish == "stop"
    return Score(right, len(pairs))


def losses(
    per_token: Sequence[np.ndarray], encoded: Sequence[tuple[list[int], list[bool]]], answer_bytes: int
) -> Losses:
    """Totals over all documents; `per_token` holds the loss of every token after the first of its document."""
    own = [np.array(mine[1:]) for _, mine in encoded]
    answer = sum(float(values[mine].sum()) for values, mine in zip(per_token, own, strict=True))
    count = sum(int(mine.sum()) for mine in own)
    everything = sum(float(values.sum()) for values in per_token) / sum(len(values) for values in per_token)
    return Losses(answer / count, everything, answer / answer_bytes / float(np.log(2)))


@torch.no_grad()
def model_losses(model: Llama, encoded: Sequence[tuple[list[int], list[bool]]]) -> list[np.ndarray]:
    result = []
    for ids, _ in encoded:
        row = torch.tensor([ids])
        result.append(F.cross_entropy(model(row[:, :-1])[0], row[0, 1:], reduction="none").numpy())
    return result


def ngram_losses(
    corpus: tok.Corpus, encoded: Sequence[tuple[list[int], list[bool]]], order: int, vocab: int
) -> list[np.ndarray]:
    pieces = (corpus.tokens[a:b] for a, b in zip(corpus.starts[:-1], corpus.starts[1:], strict=True))
    baseline = NGram(padded(pieces, order), order, vocab)
    result = []
    for ids, _ in encoded:
        result.append(-baseline.log_probabilities(padded([np.array(ids)], order))[1:])
    return result


def samples(engine: Engine) -> list[tuple[str, Reply]]:
    return [(text, engine.ask(text, temperature=None, seed=SAMPLE_SEED)) for text in SAMPLES]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text_facts(folder: Path, corpus: tok.Corpus) -> dict[str, Any]:
    text = folder / "train.jsonl"
    return {
        "bytes": text.stat().st_size, "sha256": digest(text), "documents": len(corpus.starts) - 1,
        "tokens": len(corpus.tokens), "answer_tokens": int(corpus.own.sum()),
    }  # fmt: skip


def measure(folder: Path, gguf: Path, seed: int, per_family: int, note: str) -> dict[str, Any]:
    """Everything the card states, as plain values."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model, state = load(folder / "model.pt")
    stored_weights(model, gguf)
    corpus = tok.Corpus.load(folder / "train.npz")
    asked = list(held_out_turns(seed, per_family))
    # Texts of earlier phases lie beside the last one as train.1.jsonl and so on.
    trained = set().union(*(questions_in(text) for text in sorted(folder.glob("train*.jsonl"))))
    turns = [turn for turn in asked if bare(turn.user) not in trained]
    known = [turn for turn in asked if bare(turn.user) in trained]
    encoded = [tok.encode_document(tokenizer, [("user", t.user), ("assistant", t.answer)]) for t in turns]
    size = sum(len(t.answer.encode()) for t in turns)
    with Engine(gguf) as engine:
        families, ended = exact_match(engine, turns)
        seen, _ = exact_match(engine, known)
        warm, _ = exact_match(engine, turns, temperature=None)
        recall = conversation_recall(engine, held_out_memories(seed, per_family))
        shown = samples(engine)
    baselines = {n: losses(ngram_losses(corpus, encoded, n, model.shape.vocab), encoded, size) for n in ORDERS}
    return {
        "text": text_facts(folder, corpus), "state": state, "parameters": model.shape.parameters, "shape": model.shape,
        "gguf_bytes": gguf.stat().st_size, "gguf_sha256": digest(gguf), "questions": len(turns), "families": families,
        "seen": seen, "warm": warm, "ended": ended, "recall": recall, "samples": shown, "baselines": baselines,
        "loss": losses(model_losses(model, encoded), encoded, size),
        "temperature": DEFAULT_TEMPERATURE, "seed": SAMPLE_SEED, "note": note,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/starter"))
    parser.add_argument("--gguf", type=Path, default=Path("build/starter/starter.gguf"))
    parser.add_argument("--card", type=Path, default=Path("pantry/starter/CARD.md"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--per-family", type=int, default=60)
    parser.add_argument("--note", default="", help="how the training ran, when it was in several parts")
    options = parser.parse_args()
    options.card.write_text(
        card(measure(options.folder, options.gguf, options.seed, options.per_family, options.note)), encoding="utf-8"
    )
    print(f"{options.card} written")


if __name__ == "__main__":
    main()
