"""Deltas and .enc files of every released format version stay readable: their files are kept here for ever."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from pantry.workshop.delta import xor_files as enc
from pantry.workshop.delta.folder import DeltaFolder
from tests.formats.model_files import bf16, read_tree, safetensors, write_folder
from tests.workshop.delta.deltas import apply, make

GOLDEN = Path(__file__).parent / "golden"
ENC_DIGEST = "88fc651b7d6f2f636281a022a010959a3c994e1eef4b807f9b7c14067e2fc66b"
"""Computed byte by byte, apart from this project."""


def spread(count: int, factor: int) -> Any:
    """Numbers shaped like weights, by whole-number arithmetic that no library version changes."""
    mixed = (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    parts = sum(((mixed >> np.uint64(shift)) & np.uint64(255)).astype(np.int64) for shift in (0, 8, 16, 24))
    return ((parts - 510) / 16384).astype(np.float32)


def base_tree() -> dict[str, bytes]:
    weights = spread(24_000, 2_654_435_761)
    tensors = {
        "grouped": ("bf16", (24_000,), bf16(weights)),
        "frozen": ("f32", (50,), weights[:50].tobytes()),
        "product.weight": ("bf16", (96, 96), bf16(weights[:9216])),
        "cast": ("f32", (100,), weights[:100].tobytes()),
    }
    return {"m.safetensors": safetensors(tensors), "words.txt": "".join(f"{n} " for n in range(20_000)).encode()}


def target_tree() -> dict[str, bytes]:
    weights = spread(24_000, 2_654_435_761)
    up, down = spread(96 * 2, 40_503).reshape(96, 2) * 8, spread(96 * 2, 48_271).reshape(2, 96) * 8
    cut = (np.frombuffer(bf16(weights[:9216]), np.uint16).astype(np.uint32) << 16).view(np.float32)
    tensors = {
        "grouped": ("bf16", (24_000,), bf16(weights + spread(24_000, 1_597_334_677) / 64)),
        "frozen": ("f32", (50,), weights[:50].tobytes()),
        "product.weight": ("bf16", (96, 96), bf16(cut.reshape(96, 96) + up @ down)),
        "cast": ("f16", (100,), weights[:100].astype("<f2").tobytes()),
        "new": ("bf16", (300,), bf16(spread(300, 69_621))),
    }
    words = base_tree()["words.txt"].replace(b"777 ", b"seven ")
    return {"m.safetensors": safetensors(tensors), "words.txt": words, "note.txt": b"tuned"}


def write_golden(folder: Path) -> None:
    """How the files in golden/ were made: run once for each new version of the format."""
    up, down = spread(96 * 2, 40_503) * 8, spread(96 * 2, 48_271) * 8
    factors = {
        "base_model.model.product.lora_A.weight": ("f32", (2, 96), down.tobytes()),
        "base_model.model.product.lora_B.weight": ("f32", (96, 2), up.tobytes()),
    }
    config = json.dumps({"r": 2, "lora_alpha": 2}).encode()
    adapter = {"adapter_config.json": config, "adapter_model.safetensors": safetensors(factors)}
    base, target = write_folder(folder / "base", base_tree()), write_folder(folder / "target", target_tree())
    make(base, target, folder / "delta", adapter=write_folder(folder / "adapter", adapter))


def test_a_delta_of_format_1_is_rebuilt(tmp_path: Path) -> None:
    base = write_folder(tmp_path / "base", base_tree())
    with DeltaFolder(GOLDEN / "delta1") as delta:
        used = {piece.op for file in delta.payload.index.files for piece in file.pieces}
    assert used == {"copy", "sub", "lowrank", "full", "stored", "patch"}
    apply(base, GOLDEN / "delta1", tmp_path / "out")
    assert read_tree(tmp_path / "out") == target_tree()


def test_an_enc_file_has_the_bytes_it_always_had(tmp_path: Path) -> None:
    plain, key = bytes(range(256)) * 5, b"LLaMA"
    files = write_folder(tmp_path, {"weights.bin": plain, "key": key})
    written = enc.encrypt(files / "weights.bin", files / "key", tmp_path / "enc")
    assert hashlib.sha256(written.path.read_bytes()).hexdigest() == ENC_DIGEST
    assert written.path.read_bytes()[:32] == hashlib.sha256(plain).digest()
    assert written.path.read_bytes()[32:40] == bytes([0x4C, 0x4D, 0x63, 0x4E, 0x45, 0x49, 0x4A, 0x66])
