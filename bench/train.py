"""Training against a plain loop and the Hugging Face `Trainer`: `python -m bench.train TEXT` prints Markdown tables.

TEXT is tiny Shakespeare. The plain loop is nanoGPT's setting for a small computer: a GPT-2 of 4 layers, 4 heads, width
128, context 64, characters as tokens; batches of 12, AdamW (rate 0.001 falling to 0.0001 by a cosine, 100 steps of
warm-up, decay 0.1), 2,000 iterations; its authors report a validation loss of 1.88. Ours is the recipe in
`examples/shakespeare-char` with a quarter of the tokens. Both run one after the other in this process; the loss is
that of the same held-out tenth of the text in nats per character, and evaluation is not timed. With `--iterations` both
are shortened. Against the Hugging Face `Trainer`, ours uses AdamW as it does.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench._report import machine, print_table, verdict
from pantry.workshop.recipe import RecipeFolder, read_recipe
from pantry.workshop.training.loop import Trainer
from pantry.workshop.training.prepare import prepare

LAYERS, HEADS, WIDTH, CONTEXT, BATCH, ITERATIONS = 4, 4, 128, 64, 12, 2000
REPORTED = 1.88
EVALUATED = 65536  # held-out characters
RECIPE = Path(__file__).parent.parent / "examples" / "shakespeare-char"


@dataclass(frozen=True)
class Curve:
    """Tokens seen, seconds spent and held-out loss at each evaluation."""

    points: list[tuple[int, float, float]]

    def reaches(self, loss: float) -> tuple[int, float] | None:
        """Tokens and seconds at the first evaluation with that loss or less."""
        return next(((tokens, seconds) for tokens, seconds, found in self.points if found <= loss), None)


class GptBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH, bias=False), nn.LayerNorm(WIDTH, bias=False)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        heads = self.qkv(self.first(x)).view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*heads.unbind(0), is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, WIDTH))
        return x + self.down(F.gelu(self.up(self.second(x))))


class Gpt(nn.Module):
    """GPT-2 as nanoGPT builds it, without biases and with the output tied to the embedding."""

    def __init__(self, vocab: int) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(vocab, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(GptBlock() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS) if last else 0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)


def plain_loop(text: str, iterations: int, every: int) -> tuple[Curve, int]:
    """nanoGPT's loop; the curve and the number of parameters."""
    torch.manual_seed(1337)
    letters = sorted(set(text))
    number = {letter: at for at, letter in enumerate(letters)}
    ids = torch.tensor([number[letter] for letter in text])
    cut = int(0.9 * len(ids))
    train, held_out = ids[:cut], ids[cut : cut + EVALUATED + 1]
    model = Gpt(len(letters))
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99))
    points, seconds = [], 0.0
    for step in range(1, iterations + 1):
        began = time.perf_counter()
        along = max(0.0, (step - 100) / max(1, iterations - 100))
        share = step / 100 if step < 100 else 0.1 + 0.9 * (1 + math.cos(math.pi * along)) / 2
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 * share
        places = torch.randint(len(train) - CONTEXT - 1, (BATCH,))
        window = torch.stack([train[at : at + CONTEXT + 1] for at in places])
        loss = F.cross_entropy(model(window[:, :-1]).flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        seconds += time.perf_counter() - began
        if step % every == 0 or step == iterations:
            points.append((step * BATCH * CONTEXT, seconds, gpt_loss(model, held_out)))
    return Curve(points), sum(p.numel() for p in model.parameters())


@torch.no_grad()
def gpt_loss(model: Gpt, held_out: Tensor) -> float:
    rows = held_out[: EVALUATED // CONTEXT * CONTEXT].view(-1, CONTEXT)
    targets = held_out[1 : 1 + rows.numel()].view(-1, CONTEXT)
    parts = [
        F.cross_entropy(model(rows[at : at + 64]).flatten(0, 1), targets[at : at + 64].flatten(), reduction="sum")
        for at in range(0, len(rows), 64)
    ]
    return float(sum(parts)) / rows.numel()


def recipe_with(text: Path, room: Path, tokens: int) -> RecipeFolder:
    folder = room / "shakespeare-char"
    shutil.copytree(RECIPE, folder, ignore=shutil.ignore_patterns("data"))
    (folder / "data").mkdir()
    shutil.copy(text, folder / "data" / "text.txt")
    return read_recipe(folder, {"tokens": tokens, "minutes": None, "evaluate_tokens": EVALUATED})


def our_loop(trainer: Trainer, every: int) -> Curve:
    points = []
    while trainer.done < 1:
        trainer.step()
        if trainer.progress.step % every == 0 or trainer.done >= 1:
            points.append((trainer.progress.tokens, trainer.progress.seconds, trainer.evaluate().loss))
    return Curve(points)


def hugging_face_speed(trainer: Trainer, steps: int, room: Path) -> float | None:
    """Tokens a second of the Hugging Face `Trainer` (AdamW) with the same network; None where it is not installed."""
    if not all(importlib.util.find_spec(name) for name in ("transformers", "accelerate")):
        return None
    import transformers

    shape, recipe = trainer.shape, trainer.recipe
    config = transformers.LlamaConfig(
        vocab_size=shape.vocab, hidden_size=shape.width, intermediate_size=shape.hidden,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=shape.context, tie_word_embeddings=True,
    )  # fmt: skip
    ids = np.asarray(trainer.data.train.ids[: (steps + 20) * recipe.batch * shape.context + 1], np.int64)
    rows: list[dict[str, Any]] = [
        {
            "input_ids": torch.from_numpy(ids[at : at + shape.context]),
            "labels": torch.from_numpy(ids[at : at + shape.context]),
        }
        for at in range(0, len(ids) - shape.context, shape.context)
    ]
    arguments = transformers.TrainingArguments(
        output_dir=str(room / "hf"), per_device_train_batch_size=recipe.batch, max_steps=steps, report_to=[],
        save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_num_workers=0,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    runner = transformers.Trainer(model=model, args=arguments, train_dataset=rows)
    seconds = float(runner.train().metrics["train_runtime"])
    return steps * recipe.step_tokens / seconds


def compare_losses(text: Path, iterations: int, room: Path) -> Trainer:
    every = max(1, iterations // 40)
    plain, size = plain_loop(text.read_text(), iterations, every)
    recipe = recipe_with(text, room, iterations * BATCH * CONTEXT // 4)
    data = prepare(recipe, room / "work")
    trainer = Trainer(recipe.settings, data)
    ours = our_loop(trainer, every)
    wanted = REPORTED if iterations >= ITERATIONS else plain.points[-1][2]
    rows = []
    for name, curve, count in (("plain loop", plain, size), ("pantry", ours, trainer.shape.parameters)):
        tokens, seconds, loss = curve.points[-1]
        reached = curve.reaches(wanted)
        rows.append(
            [
                name, f"{count:,}", f"{tokens:,}", f"{seconds:.1f}", f"{tokens / seconds:,.0f}", f"{loss:.3f}",
                f"{reached[0]:,} tokens, {reached[1]:.1f} s" if reached else "not reached",
            ]
        )  # fmt: skip
    columns = ["loop", "parameters", "tokens", "s", "tokens/s", "held-out loss", f"loss {wanted:.3f} after"]
    print_table(f"Tiny Shakespeare, {iterations:,} iterations of the plain loop", columns, rows)
    tokens, seconds, _ = plain.points[-1]
    reached = ours.reaches(wanted)
    goals = []
    for what, at, whole in (("tokens", 0, tokens), ("wall time", 1, seconds)):
        share = reached[at] / whole if reached else math.inf
        goals.append(
            [f"{what} to {wanted:.3f}, of the plain loop's", "≤ 0.5", f"{share:.2f}", verdict(share, 0.5, at_most=True)]
        )
    print_table("Goals", ["goal", "wanted", "found", ""], goals)
    return trainer


def compare_speed(trainer: Trainer, steps: int, room: Path) -> None:
    theirs = hugging_face_speed(trainer, steps, room)
    if theirs is None:
        print("\nThe Hugging Face Trainer is not installed: pip install transformers accelerate")
        return
    trainer = Trainer(trainer.recipe.model_copy(update={"optimiser": "adamw"}), trainer.data)
    for _ in range(5):
        trainer.step()
    before = trainer.progress
    for _ in range(steps):
        trainer.step()
    ours = steps * trainer.recipe.step_tokens / (trainer.progress.seconds - before.seconds)
    rows = [["Hugging Face Trainer", f"{theirs:,.0f}", "1"], ["pantry", f"{ours:,.0f}", f"{ours / theirs:.2f}"]]
    note = f"DownloadTarget ≥ 1.2 times: {verdict(ours / theirs, 1.2, at_most=False)}."
    print_table("The same network in the Hugging Face Trainer", ["loop", "tokens/s", "times"], rows, note)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path)
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine()}; torch {torch.__version__}, {options.threads} thread(s)")
    with tempfile.TemporaryDirectory() as room:
        trainer = compare_losses(options.text, options.iterations, Path(room))
        compare_speed(trainer, min(200, options.iterations), Path(room))


if __name__ == "__main__":
    main()
