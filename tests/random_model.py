"""Writes whole GGUF models of any size, for tests and benchmarks that need a real engine to load one."""

from pathlib import Path

import numpy
import pytest


def write_random_model(
    file: Path, *, layers: int, width: int, heads: int, kv: int, ff: int, vocabulary: int, type: str, context: int
) -> None:
    """A Llama model of these sizes with random weights, that llama.cpp loads. `type` is F16, Q8_0, ..."""
    gguf = pytest.importorskip("gguf")
    random = numpy.random.default_rng(0)
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ff)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(width // heads)
    writer.add_vocab_size(vocabulary)
    special = [b"<unk>", b"<s>", b"</s>", *(f"<0x{n:02X}>".encode() for n in range(256))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*special, *(f"w{n}".encode() for n in range(vocabulary - len(special)))])
    writer.add_token_scores([-float(n) for n in range(vocabulary)])
    writer.add_token_types([2, 3, 3] + [6] * 256 + [1] * (vocabulary - len(special)))
    kind = gguf.GGMLQuantizationType[type]

    def add(name: str, *shape: int) -> None:
        if len(shape) == 1:
            writer.add_tensor(name, numpy.ones(shape, dtype=numpy.float32))
            return
        values = random.standard_normal(shape, dtype=numpy.float32) * 0.02
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)

    add("token_embd.weight", vocabulary, width)
    add("output_norm.weight", width)
    add("output.weight", vocabulary, width)
    for number in range(layers):
        block = f"blk.{number}"
        for name, rows in (("attn_q", width), ("attn_k", kv * width // heads), ("attn_v", kv * width // heads)):
            add(f"{block}.{name}.weight", rows, width)
        add(f"{block}.attn_norm.weight", width)
        add(f"{block}.attn_output.weight", width, width)
        add(f"{block}.ffn_norm.weight", width)
        add(f"{block}.ffn_gate.weight", ff, width)
        add(f"{block}.ffn_up.weight", ff, width)
        add(f"{block}.ffn_down.weight", width, ff)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
