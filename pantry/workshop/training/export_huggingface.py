"""Writes a trained model as a folder that `transformers` loads as it is: LlamaForCausalLM, or Qwen3ForCausalLM."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from pantry.core.files import write_atomically
from pantry.workshop.data.tokenizer import CHAT_TEMPLATE, END_OF_TEXT, END_OF_TEXT_ID, TURN_END, TURN_END_ID
from pantry.workshop.shape import NORM_EPS, ROPE_BASE, Shape
from pantry.workshop.training.export_gguf import About
from pantry.workshop.training.model import INITIAL_SPREAD, Llama

_BLOCK = {
    "input_layernorm": "attention_norm", "self_attn.q_proj": "attention.q", "self_attn.k_proj": "attention.k",
    "self_attn.v_proj": "attention.v", "self_attn.o_proj": "attention.o", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn.gate", "mlp.up_proj": "ffn.up", "mlp.down_proj": "ffn.down",
}  # fmt: skip
_QK = {"self_attn.q_norm": "attention.q_norm", "self_attn.k_norm": "attention.k_norm"}


def export_huggingface(model: Llama, tokenizer: Tokenizer, about: About, folder: Path) -> None:
    """Write weights, configuration and tokenizer into `folder`, each file whole. Raises StorageError."""
    write_atomically(folder / "model.safetensors", save(_tensors(model), {"format": "pt"}))
    end = TURN_END_ID if about.chat else END_OF_TEXT_ID
    files: dict[str, dict[str, Any]] = {
        "config.json": _config(model.shape, end),
        "generation_config.json": {
            "bos_token_id": END_OF_TEXT_ID,
            "eos_token_id": end,
            "pad_token_id": END_OF_TEXT_ID,
        },
        "tokenizer_config.json": _tokenizer_config(model.shape, about.chat),
    }
    for name, content in files.items():
        write_atomically(folder / name, (json.dumps(content, indent=2) + "\n").encode())
    write_atomically(folder / "tokenizer.json", (tokenizer.to_str(pretty=True) + "\n").encode())


def tensor_names(shape: Shape) -> dict[str, str]:
    """Name in the Hugging Face file to the network's own."""
    names = {"model.embed_tokens.weight": "embedding.weight", "model.norm.weight": "norm.weight"}
    if not shape.tied:
        names["lm_head.weight"] = "output.weight"
    parts = {**_BLOCK, **(_QK if shape.qk_norm else {})}
    for layer in range(shape.layers):
        names |= {f"model.layers.{layer}.{new}.weight": f"blocks.{layer}.{old}.weight" for new, old in parts.items()}
    return names


def _tensors(model: Llama) -> dict[str, Tensor]:
    return {
        name: model.get_parameter(own_name).detach().float().cpu().contiguous()
        for name, own_name in tensor_names(model.shape).items()
    }


def _config(shape: Shape, end: int) -> dict[str, Any]:
    kind = "Qwen3" if shape.qk_norm else "Llama"
    return {
        "architectures": [f"{kind}ForCausalLM"],
        "model_type": kind.lower(),
        "vocab_size": shape.vocab,
        "hidden_size": shape.width,
        "intermediate_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "max_position_embeddings": shape.context,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_BASE,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": shape.tied,
        "initializer_range": INITIAL_SPREAD,
        "bos_token_id": END_OF_TEXT_ID,
        "eos_token_id": end,
        "pad_token_id": END_OF_TEXT_ID,
        "torch_dtype": "float32",
    }


def _tokenizer_config(shape: Shape, chat: bool) -> dict[str, Any]:
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END_OF_TEXT,
        "eos_token": TURN_END if chat else END_OF_TEXT,
        "pad_token": END_OF_TEXT,
        "model_max_length": shape.context,
        "clean_up_tokenization_spaces": False,
    }
    if chat:
        config["chat_template"] = CHAT_TEMPLATE
    return config
