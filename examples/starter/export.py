"""Write a checkpoint as GGUF Q8_0 with its tokenizer and chat template: `python -m examples.starter.export`."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from pantry.workshop.shape import Shape
from pantry.workshop.training.export_gguf import About, export_gguf, tensor_names
from pantry.workshop.training.model import Llama

DEFAULT_TEMPERATURE = 0.2
"""What the engine takes when a program names no temperature: facts stay right, and stories still differ."""
DESCRIPTION = (
    "The starter model of Pantry: a very small language model, trained from scratch on a text that the project "
    "writes itself. It tells short stories, answers plain questions and explains Pantry."
)


def load(path: Path) -> tuple[Llama, dict[str, Any]]:
    """The network in a checkpoint, ready to evaluate, and what was recorded about its training."""
    saved = torch.load(path, map_location="cpu", weights_only=True)
    model = Llama(Shape(**saved["shape"]))
    model.load_state_dict(saved["weights"])
    return model.eval(), saved["state"]


def split_half(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix from the order of llama.cpp back to that of the network."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def export(model: Llama, tokenizer: Tokenizer, path: Path, kind: str = "q8_0") -> str:
    """Write the GGUF, matrices as `kind` and norms as float32. Returns its SHA-256."""
    about = About("Pantry Starter", DESCRIPTION, "CC0-1.0", chat=True, temperature=DEFAULT_TEMPERATURE)
    export_gguf(model, tokenizer, about, path, kind)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored_weights(model: Llama, path: Path) -> None:
    """Put the weights of a GGUF written by `export` into the network, with what quantisation did to them."""
    stored = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors
    }
    for name, own_name in tensor_names(model.shape).items():
        values = stored[name]
        if name.endswith("attn_q.weight"):
            values = split_half(values, model.shape.heads)
        elif name.endswith("attn_k.weight"):
            values = split_half(values, model.shape.kv_heads)
        model.get_parameter(own_name).data.copy_(torch.from_numpy(values.copy()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/starter"))
    parser.add_argument("--out", type=Path, default=Path("build/starter/starter.gguf"))
    options = parser.parse_args()
    model, state = load(options.folder / "model.pt")
    digest = export(model, Tokenizer.from_file(str(options.folder / "tokenizer.json")), options.out)
    print(f"{options.out}: {options.out.stat().st_size} bytes, sha256 {digest}, after {state['steps']} steps")


if __name__ == "__main__":
    main()
