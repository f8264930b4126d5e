"""Writes a trained model as GGUF with its tokenizer: architecture `llama`, or `qwen3` where queries are normalised."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from pantry.core.files import TEMPORARY_PREFIX, storage_errors, sync_folder
from pantry.workshop.data.tokenizer import CHAT_TEMPLATE, END_OF_TEXT_ID, SPECIALS, TURN_END_ID
from pantry.workshop.shape import NORM_EPS, ROPE_BASE, Shape
from pantry.workshop.training.model import Llama

Array = npt.NDArray[np.float32]
TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}
_BLOCK = {
    "attn_norm": "attention_norm", "attn_q": "attention.q", "attn_k": "attention.k", "attn_v": "attention.v",
    "attn_output": "attention.o", "ffn_norm": "ffn_norm", "ffn_gate": "ffn.gate", "ffn_up": "ffn.up",
    "ffn_down": "ffn.down",
}  # fmt: skip
_QK = {"attn_q_norm": "attention.q_norm", "attn_k_norm": "attention.k_norm"}


@dataclass(frozen=True)
class About:
    """What the files say of the model beside its weights."""

    name: str
    description: str
    licence: str | None = None
    chat: bool = False
    temperature: float | None = None
    """What an engine takes where a program names none; None leaves it to the engine."""


def pairwise(weight: Array, heads: int) -> Array:
    """Rows of a query or key matrix from the split-half rotary order to the pairwise one of llama.cpp's Llama graph."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def tensor_names(shape: Shape) -> dict[str, str]:
    """GGUF tensor name to the network's own. A tied output layer is left out: it is the embedding."""
    names = {"token_embd.weight": "embedding.weight", "output_norm.weight": "norm.weight"}
    if not shape.tied:
        names["output.weight"] = "output.weight"
    parts = {**_BLOCK, **(_QK if shape.qk_norm else {})}
    for layer in range(shape.layers):
        names |= {f"blk.{layer}.{new}.weight": f"blocks.{layer}.{old}.weight" for new, old in parts.items()}
    return names


def export_gguf(model: Llama, tokenizer: Tokenizer, about: About, path: Path, kind: str = "f32") -> None:
    """Write `path`, matrices as `kind`, norms as float32; it appears when whole. Raises StorageError."""
    matrix, file_type = TYPES[kind]
    part = path.parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    with storage_errors(f"Writing {path.name}"):
        try:
            writer = gguf.GGUFWriter(part, "qwen3" if model.shape.qk_norm else "llama")
            _write_header(writer, model.shape, about)
            writer.add_file_type(file_type)
            _write_vocabulary(writer, tokenizer, about.chat)
            for name, values in _tensors(model).items():
                is_matrix = values.ndim == 2 and matrix is not gguf.GGMLQuantizationType.F32
                if is_matrix:
                    writer.add_tensor(
                        name, gguf.quants.quantize(np.ascontiguousarray(values), matrix), raw_dtype=matrix
                    )
                else:
                    writer.add_tensor(name, np.ascontiguousarray(values))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            part.replace(path)
            sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _tensors(model: Llama) -> dict[str, Array]:
    """Every tensor under its GGUF name; the rotary rows in llama.cpp's order, which for Qwen3 is our own."""
    named: dict[str, Array] = {}
    for name, own_name in tensor_names(model.shape).items():
        values = model.get_parameter(own_name).detach().float().cpu().numpy()
        if not model.shape.qk_norm and name.endswith("attn_q.weight"):
            values = pairwise(values, model.shape.heads)
        elif not model.shape.qk_norm and name.endswith("attn_k.weight"):
            values = pairwise(values, model.shape.kv_heads)
        named[name] = values
    return named


def _write_header(writer: gguf.GGUFWriter, shape: Shape, about: About) -> None:
    writer.add_name(about.name)
    writer.add_description(about.description)
    if about.licence:
        writer.add_license(about.licence)
    if about.temperature is not None:
        writer.add_float32("general.sampling.temp", about.temperature)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.hidden)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_layer_norm_rms_eps(NORM_EPS)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(shape.vocab)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _write_vocabulary(writer: gguf.GGUFWriter, tokenizer: Tokenizer, chat: bool) -> None:
    """Tokens, merges and special ids. Every training document begins with end-of-text, so that is the BOS."""
    words = [tokenizer.id_to_token(at) or "" for at in range(tokenizer.get_vocab_size())]
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(words)
    writer.add_token_types([gguf.TokenType.CONTROL if word in SPECIALS else gguf.TokenType.NORMAL for word in words])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(END_OF_TEXT_ID)
    writer.add_eos_token_id(TURN_END_ID if chat else END_OF_TEXT_ID)
    writer.add_pad_token_id(END_OF_TEXT_ID)
    writer.add_add_bos_token(True)
    if chat:
        writer.add_eot_token_id(TURN_END_ID)
        writer.add_chat_template(CHAT_TEMPLATE)
