"""Makes the base and the fine-tunes that bench/delta.py measures: `python -m bench.delta_pairs TEXT OUT`.

A character model of 10.8 million parameters is trained for a while on the first nine tenths of TEXT, then fine-tuned on
the rest until its weights have moved by a wanted share of their norm. One thread; about a quarter of an hour.
"""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 384, 6, 6, 128, 12
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
STRENGTHS = {"very-small": (0.004, 1e-5), "small": (0.029, 1e-4), "large": (0.096, 4e-4)}
"""Name to (norm of the change over norm of the weights, learning rate)."""
LORA_RANK, LORA_ALPHA, LORA_STEPS, LORA_RATE = 8, 16, 30, 2e-3


class Block(nn.Module):
    """One transformer layer: attention and a feed-forward part, each added to the stream."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.before_feed = nn.LayerNorm(WIDTH)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, stream: Tensor) -> Tensor:
        count, length, _ = stream.shape
        query, key, value = (
            part.view(count, length, HEADS, -1).transpose(1, 2)
            for part in self.qkv(self.before_attention(stream)).split(WIDTH, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        stream = stream + self.out(mixed.transpose(1, 2).reshape(count, length, WIDTH))
        return stream + self.down(functional.gelu(self.up(self.before_feed(stream))))


class CharacterModel(nn.Module):
    """A small GPT over characters; input [batch, length] of indices, output [batch, length, symbols] of logits."""

    def __init__(self, symbols: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(symbols, WIDTH)
        self.positions = nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.last_norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, symbols, bias=False)
        self.apply(self._start)

    @staticmethod
    def _start(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, characters: Tensor) -> Tensor:
        stream = self.characters(characters) + self.positions(torch.arange(characters.shape[1]))
        for block in self.blocks:
            stream = block(stream)
        return self.head(self.last_norm(stream))


class LoraLinear(nn.Module):
    """A frozen linear layer with trainable factors A [rank, in] and B [out, rank] beside it."""

    def __init__(self, inner: nn.Linear) -> None:
        super().__init__()
        self.inner = inner
        self.A = nn.Parameter(torch.randn(LORA_RANK, inner.in_features) / LORA_RANK)
        self.B = nn.Parameter(torch.zeros(inner.out_features, LORA_RANK))

    def forward(self, rows: Tensor) -> Tensor:
        return self.inner(rows) + (rows @ self.A.T @ self.B.T) * (LORA_ALPHA / LORA_RANK)


class Text:
    """Characters as indices, drawn in random batches with a fixed seed."""

    def __init__(self, file: Path) -> None:
        text = file.read_text()
        symbols = sorted(set(text))
        self.symbols = len(symbols)
        indices = torch.tensor([symbols.index(character) for character in text])
        cut = len(indices) * 9 // 10
        self.train, self.tune = indices[:cut], indices[cut:]
        self._dice = torch.Generator().manual_seed(7)

    def batch(self, part: Tensor) -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(part) - CONTEXT - 1, (BATCH,), generator=self._dice)
        rows = torch.stack([part[start : start + CONTEXT + 1] for start in starts.tolist()])
        return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def moved_norm(weights: list[nn.Parameter], start: list[Tensor]) -> float:
    return sum(float((now - then).square().sum()) for now, then in zip(weights, start, strict=True)) ** 0.5


def train(model: nn.Module, text: Text, part: Tensor, rate: float, steps: int, until: float = 0.0) -> float:
    """Train for `steps`, or until the trained weights moved by the share `until`; gives back the last loss."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    start = [weight.detach().clone() for weight in weights]
    norm = sum(float(weight.square().sum()) for weight in start) ** 0.5
    optimiser = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
    loss = torch.zeros(())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * min(1.0, (step + 1) / 10)
        given, wanted = text.batch(part)
        loss = functional.cross_entropy(model(given).flatten(0, 1), wanted.flatten())
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        moved = moved_norm(weights, start)
        if step % 10 == 0:
            print(f"  step {step} loss {loss.item():.3f} moved {moved / norm:.4f}", flush=True)
        if until and moved >= until * norm:
            break
    return loss.item()


def rounded(model: nn.Module, dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: value.detach().to(dtype).contiguous() for name, value in model.state_dict().items()}


def save(tensors: dict[str, Tensor], folder: Path, note: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"model_type": "characters", "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "note": note}
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    print(f"{folder.name}: {sum(value.numel() for value in tensors.values()) / 1e6:.1f} M parameters", flush=True)


def tuned_from(base: CharacterModel, dtype: torch.dtype) -> CharacterModel:
    """A trainable fp32 copy of the base as published in `dtype`."""
    model = copy.deepcopy(base)
    model.load_state_dict({name: value.float() for name, value in rounded(base, dtype).items()})
    return model


def freeze_two_thirds(model: CharacterModel) -> None:
    """Train only the last third of the layers, the last norm and the head."""
    for name, weight in model.named_parameters():
        parts = name.split(".")
        late = parts[0] in ("last_norm", "head") or (parts[0] == "blocks" and int(parts[1]) >= LAYERS * 2 // 3)
        weight.requires_grad_(late)


def make_lora(base: CharacterModel, text: Text, out: Path) -> None:
    """A LoRA trained beside a bf16 base, saved as an adapter folder in fp32, and merged into bf16 weights."""
    model = tuned_from(base, torch.bfloat16)
    model.requires_grad_(False)
    for block in model.blocks:
        for name in ("qkv", "out", "up", "down"):
            setattr(block, name, LoraLinear(getattr(block, name)))
    train(model, text, text.tune, LORA_RATE, LORA_STEPS)
    merged = rounded(base, torch.bfloat16)
    adapter: dict[str, Tensor] = {}
    for path, layer in model.named_modules():
        if isinstance(layer, LoraLinear):
            down, up = layer.A.detach(), layer.B.detach()
            change = (up @ down) * (LORA_ALPHA / LORA_RANK)
            merged[f"{path}.weight"] = (merged[f"{path}.weight"].float() + change).to(torch.bfloat16)
            adapter[f"base_model.model.{path}.lora_A.weight"] = down
            adapter[f"base_model.model.{path}.lora_B.weight"] = up
    save(merged, out / "bf16-lora", "LoRA, merged")
    folder = out / "adapter"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(adapter, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": LORA_RANK, "lora_alpha": LORA_ALPHA, "fan_in_fan_out": False})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(7)
    text = Text(options.text)
    base = CharacterModel(text.symbols)
    train(base, text, text.train, 1e-3, options.steps)
    for name, dtype in DTYPES.items():
        save(rounded(base, dtype), options.out / f"{name}-base", "base")
    for strength, (share, rate) in STRENGTHS.items():
        model = tuned_from(base, torch.bfloat16)
        train(model, text, text.tune, rate, 400, share)
        save(rounded(model, torch.bfloat16), options.out / f"bf16-{strength}", strength)
    model = tuned_from(base, torch.bfloat16)
    freeze_two_thirds(model)
    train(model, text, text.tune, STRENGTHS["small"][1], 400, STRENGTHS["small"][0])
    save(rounded(model, torch.bfloat16), options.out / "bf16-frozen", "two thirds frozen")
    make_lora(base, text, options.out)
    for name in ("fp16", "fp32"):
        model = tuned_from(base, DTYPES[name])
        train(model, text, text.tune, STRENGTHS["small"][1], 400, STRENGTHS["small"][0])
        save(rounded(model, DTYPES[name]), options.out / f"{name}-small", "small")


if __name__ == "__main__":
    main()
