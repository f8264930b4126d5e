"""Write a checkpoint as GGUF Q8_0 with its tokenizer and chat template: `python -m examples.starter.export`."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer

from .model import Llama, Shape
from .tokenizer import END_OF_TEXT, SPECIALS, TURN_END

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
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


def pairwise(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix from the split-half rotary order to the pairwise one of llama.cpp's Llama graph."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def split_half(weight: np.ndarray, heads: int) -> np.ndarray:
    """The inverse of `pairwise`."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensor_names(layers: int) -> dict[str, str]:
    """GGUF tensor name to the network's own. The output layer is left out: it is the embedding."""
    names = {"token_embd.weight": "embedding.weight", "output_norm.weight": "norm.weight"}
    parts = {
        "attn_norm": "attention_norm", "attn_q": "attention.q", "attn_k": "attention.k", "attn_v": "attention.v",
        "attn_output": "attention.o", "ffn_norm": "ffn_norm", "ffn_gate": "ffn.gate", "ffn_up": "ffn.up",
        "ffn_down": "ffn.down",
    }  # fmt: skip
    for layer in range(layers):
        names |= {f"blk.{layer}.{new}.weight": f"blocks.{layer}.{old}.weight" for new, old in parts.items()}
    return names


def tensors(model: Llama) -> dict[str, np.ndarray]:
    """Every tensor under its GGUF name, float32, the rotary rows in llama.cpp's order."""
    named = {}
    for name, own_name in tensor_names(model.shape.layers).items():
        values = model.get_parameter(own_name).detach().float().cpu().numpy()
        if name.endswith("attn_q.weight"):
            values = pairwise(values, model.shape.heads)
        elif name.endswith("attn_k.weight"):
            values = pairwise(values, model.shape.kv_heads)
        named[name] = values
    return named


def write_header(writer: gguf.GGUFWriter, shape: Shape) -> None:
    writer.add_name("Pantry Starter")
    writer.add_description(DESCRIPTION)
    writer.add_license("CC0-1.0")
    writer.add_float32("general.sampling.temp", DEFAULT_TEMPERATURE)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_vocab_size(shape.vocab)


def write_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """Tokens, merges and special ids. Every training document begins with end-of-text, so that is the BOS."""
    words = [tokenizer.id_to_token(at) for at in range(tokenizer.get_vocab_size())]
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL if word in SPECIALS else gguf.TokenType.NORMAL for word in words])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_eos_token_id(tokenizer.token_to_id(TURN_END))
    writer.add_eot_token_id(tokenizer.token_to_id(TURN_END))
    writer.add_pad_token_id(tokenizer.token_to_id(END_OF_TEXT))
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def export(
    model: Llama, tokenizer: Tokenizer, path: Path, kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0
) -> str:
    """Write the GGUF, matrices as `kind` and norms as float32; it appears at `path` when whole. Returns its SHA-256."""
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    write_header(writer, model.shape)
    writer.add_file_type(
        gguf.LlamaFileType.MOSTLY_Q8_0 if kind == gguf.GGMLQuantizationType.Q8_0 else gguf.LlamaFileType.ALL_F32
    )
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    write_vocabulary(writer, tokenizer)
    for name, values in tensors(model).items():
        if values.ndim == 2:
            writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stored_weights(model: Llama, path: Path) -> None:
    """Put the weights of a GGUF written by `export` into the network, with what quantisation did to them."""
    stored = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type) for tensor in gguf.GGUFReader(path).tensors
    }
    for name, own_name in tensor_names(model.shape.layers).items():
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
