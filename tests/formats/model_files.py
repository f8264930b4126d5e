"""Writes small model files for tests: an independent reading of the formats, so as not to test a reader by itself."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.gguf_files import GGUFBuilder

SAFETENSORS_NAMES = {
    "f64": "F64", "f32": "F32", "f16": "F16", "bf16": "BF16", "f8_e4m3": "F8_E4M3", "f8_e5m2": "F8_E5M2",
    "i64": "I64", "i32": "I32", "i16": "I16", "i8": "I8", "u8": "U8", "bool": "BOOL",
}  # fmt: skip
GGUF_NUMBERS = {"f32": 0, "f16": 1, "q8_0": 8, "bf16": 30}
Tensors = Mapping[str, tuple[str, tuple[int, ...], bytes]]
"""Name to (format, shape, bytes)."""


def bf16(values: Any) -> bytes:
    """Values as bfloat16, cut off."""
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()


def normal(seed: int, *shape: int, scale: float = 0.02) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(0, scale, shape).astype(np.float32)


def safetensors(tensors: Tensors, metadata: dict[str, str] | None = None, pad: int = 0) -> bytes:
    rows: dict[str, Any] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        rows[name] = {
            "dtype": SAFETENSORS_NAMES[dtype], "shape": list(shape), "data_offsets": [at, at + len(data)]
        }  # fmt: skip
        at += len(data)
    header = json.dumps(rows).encode()
    header += b" " * pad
    return struct.pack("<Q", len(header)) + header + b"".join(data for _, _, data in tensors.values())


def gguf(tensors: Tensors) -> bytes:
    builder = GGUFBuilder(tensors=[], data=b"")
    for name, (dtype, shape, data) in tensors.items():
        builder.tensors.append((name, list(reversed(shape)), GGUF_NUMBERS[dtype], len(builder.data)))
        builder.data += data + bytes(-len(data) % 32)
    return builder.build()


def base_tensors() -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        "embed.weight": ("bf16", (40, 64), bf16(normal(1, 40, 64))),
        "layer.up.weight": ("bf16", (300, 128), bf16(normal(2, 300, 128))),
        "layer.norm.weight": ("f32", (64,), normal(3, 64).tobytes()),
        "layer.half.weight": ("f16", (32, 64), normal(4, 32, 64).astype("<f2").tobytes()),
        "layer.steps": ("i64", (3,), np.arange(3, dtype="<i8").tobytes()),
    }


def tuned_tensors(seed: int = 9) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """The base after a small fine-tune; `layer.norm.weight` is frozen."""
    found = base_tensors()
    found["embed.weight"] = ("bf16", (40, 64), bf16(normal(1, 40, 64) + normal(seed, 40, 64, scale=0.0005)))
    found["layer.up.weight"] = ("bf16", (300, 128), bf16(normal(2, 300, 128) + normal(seed, 300, 128, scale=0.0005)))
    half = normal(4, 32, 64) + normal(seed, 32, 64, scale=0.001)
    found["layer.half.weight"] = ("f16", (32, 64), half.astype("<f2").tobytes())
    return found


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def sharded(tensors: Tensors, cuts: int) -> dict[str, bytes]:
    """The tensors in `cuts` safetensors files with an index, as large models are published."""
    names = list(tensors)
    size = -(-len(names) // cuts)
    files: dict[str, bytes] = {}
    index: dict[str, str] = {}
    for number in range(cuts):
        part = names[number * size : (number + 1) * size]
        file = f"model-{number + 1:05}-of-{cuts:05}.safetensors"
        files[file] = safetensors({name: tensors[name] for name in part})
        index |= dict.fromkeys(part, file)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": index}).encode()
    return files


def read_tree(root: Path) -> dict[str, bytes]:
    """Every file below a folder, or the one file."""
    if root.is_file():
        return {root.name: root.read_bytes()}
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
