"""Train the starter model: `python -m examples.starter.train --minutes 65`.

The schedule is a time budget: warm-up, a stable rate, and a linear decay over the last third of the
minutes, so that the run ends when the time does. A checkpoint is written every few minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor

from pantry.workshop.shape import Shape
from pantry.workshop.training.model import Llama
from pantry.workshop.training.optimisers import build_muon

from . import tokenizer as tok

WEIGHT_DECAY = 0.05


def rate(done: float) -> float:
    """Share of the peak learning rate after the share `done` of the time: up, stable, down."""
    return min(1.0, done / 0.01 + 0.02, max((1.0 - done) / 0.35, 0.0))


def losses(model: Llama, ids: Tensor, own: Tensor, generator: torch.Generator) -> Tensor:
    """Losses on the model's own words, and on a random tenth of the other tokens (padding always apart).

    The output layer is only computed where a loss is taken, which saves half of its work.
    """
    inputs, targets, wanted = ids[:, :-1], ids[:, 1:], own[:, 1:]
    chance = torch.rand(wanted.shape, generator=generator).to(wanted.device) < tok.PROMPT_WEIGHT
    wanted = wanted | (chance & (targets != 0))
    logits = F.linear(model.hidden_states(inputs)[wanted], model.embedding.weight)
    return F.cross_entropy(logits.float(), targets[wanted], reduction="none")


def groups(corpus: tok.Corpus, documents: np.ndarray, limit: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The documents by length, in padded groups of at most `limit` places: attention stays short, padding small."""
    sizes = corpus.starts[documents + 1] - corpus.starts[documents]
    documents, sizes = documents[np.argsort(-sizes)], -np.sort(-sizes)
    at = 0
    while at < len(documents):
        count = max(1, limit // int(sizes[at]))
        ids, own = corpus.padded(documents[at : at + count])
        yield torch.from_numpy(ids), torch.from_numpy(own)
        at += count


def prepare(folder: Path, vocab: int, length: int) -> tok.Corpus:
    """Tokens of train.jsonl, and the tokenizer, in `folder`; each made when it is not there yet."""
    text, encoded, saved = folder / "train.jsonl", folder / "train.npz", folder / "tokenizer.json"
    if not saved.exists():
        tok.train((d for at, d in enumerate(tok.read_documents(text)) if at % 4 == 0), vocab).save(str(saved))
    if not encoded.exists():
        part = folder / "train.part.npz"
        tok.encode_corpus(Tokenizer.from_file(str(saved)), tok.read_documents(text), length).save(part)
        part.replace(encoded)
    return tok.Corpus.load(encoded)


@dataclass(frozen=True)
class Progress:
    """What a model has been through, this run and those it resumed; `minutes` and `threads` go into its card."""

    steps: int = 0
    tokens: int = 0
    minutes: float = 0.0
    loss: float = 0.0
    threads: int = 1
    texts: tuple[str, ...] = ()
    """SHA-256 of each text that was trained on, oldest first."""


def save(model: Llama, folder: Path, progress: Progress) -> None:
    """Checkpoint by rename: readers never see half a file."""
    part = folder / "model.part"
    torch.save({"shape": asdict(model.shape), "weights": model.state_dict(), "state": asdict(progress)}, part)
    part.replace(folder / "model.pt")


def optimisers(model: Llama, peak: float) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embedding" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embedding" in n]
    built = [
        build_muon(matrices, peak, WEIGHT_DECAY),
        torch.optim.AdamW(others, lr=peak, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimiser in built:
        for group in optimiser.param_groups:
            group["peak"] = group["lr"]
    return built


def start(options: argparse.Namespace) -> tuple[Llama, Progress]:
    """A new network, or with --resume the one in the folder (its weights; the optimisers start afresh)."""
    saved = options.folder / "model.pt"
    if options.resume:
        content = torch.load(saved, map_location="cpu", weights_only=True)
        model = Llama(Shape(**content["shape"]))
        model.load_state_dict(content["weights"])
        return model.to(options.device), Progress(**content["state"])
    shape = Shape(
        vocab=options.vocab, width=options.width, layers=options.layers, heads=options.heads,
        kv_heads=options.kv_heads, hidden=options.hidden, context=options.length,
    )  # fmt: skip
    return Llama(shape).to(options.device), Progress(threads=options.threads)


def texts_after(before: Progress, text: Path) -> tuple[str, ...]:
    with text.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return before.texts if digest in before.texts else (*before.texts, digest)


def batches(corpus: tok.Corpus, size: int, seed: int) -> Iterator[np.ndarray]:
    """Document numbers, `size` at a time, every document once before any comes again."""
    shuffle = np.random.default_rng(seed)
    while True:
        order = shuffle.permutation(len(corpus.starts) - 1)
        for at in range(0, len(order) - size + 1, size):
            yield order[at : at + size]


def learn(
    model: Llama, corpus: tok.Corpus, batch: np.ndarray, options: argparse.Namespace, generator: torch.Generator
) -> tuple[float, int]:
    """Gradients of one batch, left in the parameters. Returns the mean loss and the number of tokens read."""
    own_words = sum(int(corpus.own[corpus.starts[d] : corpus.starts[d + 1]].sum()) for d in batch)
    total, count, read = 0.0, 0, 0
    for ids, own in groups(corpus, batch, options.places):
        with torch.autocast(options.device, dtype=torch.bfloat16):
            part = losses(model, ids.to(options.device), own.to(options.device), generator)
        (part.sum() / own_words).backward()
        total, count = total + float(part.detach().sum()), count + part.numel()
        read += int((ids != 0).sum()) + len(ids)
    return total / count, read


def run(options: argparse.Namespace) -> None:
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    corpus = prepare(options.folder, options.vocab, options.length)
    model, before = start(options)
    built = optimisers(model, options.lr)
    seed = options.seed + before.steps
    generator = torch.Generator().manual_seed(seed)
    print(f"{model.shape.parameters / 1e6:.2f} M parameters, {len(corpus.tokens) / 1e6:.2f} M tokens", flush=True)
    began = saved = printed = time.monotonic()
    progress, texts = before, texts_after(before, options.folder / "train.jsonl")
    for batch in batches(corpus, options.documents, seed):
        done = (time.monotonic() - began) / (options.minutes * 60)
        if done >= 1 or (options.steps and progress.steps - before.steps >= options.steps):
            break
        loss, read = learn(model, corpus, batch, options, generator)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in built:
            for group in optimiser.param_groups:
                group["lr"] = group["peak"] * rate(done)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        now = time.monotonic()
        progress = Progress(
            progress.steps + 1, progress.tokens + read, before.minutes + (now - began) / 60,
            0.98 * progress.loss + 0.02 * loss if progress.loss else loss, options.threads, texts,
        )  # fmt: skip
        if now - printed > 15:
            printed = now
            speed = (progress.tokens - before.tokens) / (now - began)
            line = f"{progress.minutes:6.1f} min  step {progress.steps}  loss {progress.loss:.4f}  {speed:.0f} tok/s"
            print(line, flush=True)
        if now - saved > options.save_every * 60:
            saved = now
            save(model, options.folder, progress)
    save(model, options.folder, progress)


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("build/starter"))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--steps", type=int, default=0, help="stop after this many steps (0: only the time counts)")
    parser.add_argument("--resume", action="store_true", help="go on from the model in the folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if gpu else "cpu")
    parser.add_argument("--documents", type=int, default=256 if gpu else 16, help="documents of a step")
    parser.add_argument(
        "--places", type=int, default=32768 if gpu else 3072, help="token places of one group of documents"
    )
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=3072)
    parser.add_argument("--width", type=int, default=384 if gpu else 256)
    parser.add_argument("--layers", type=int, default=8 if gpu else 6)
    parser.add_argument("--heads", type=int, default=6 if gpu else 4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=1024 if gpu else 704)
    parser.add_argument("--lr", type=float, default=0.0015)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save-every", type=float, default=3.0, help="minutes between checkpoints")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
