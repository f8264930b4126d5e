"""Writes GGUF bytes, right or wrong, for tests: an independent reading of the format, so as not to test the reader
against itself."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any


def text(value: str) -> bytes:
    encoded = value.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def value(kind: int, content: Any) -> bytes:
    layouts = {4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q"}
    body = text(content) if kind == 8 else struct.pack(layouts[kind], content)
    return struct.pack("<I", kind) + body


def array(kind: int, items: list[Any]) -> bytes:
    head = struct.pack("<IIQ", 9, kind, len(items))
    return head + b"".join(value(kind, item)[4:] for item in items)


@dataclass
class GGUFBuilder:
    """A small two-tensor file; change a field to break one thing."""

    magic: bytes = b"GGUF"
    version: int = 3
    tensor_count: int | None = None
    key_count: int | None = None
    metadata: dict[str, bytes] = field(
        default_factory=lambda: {
            "general.architecture": value(8, "llama"),
            "general.name": value(8, "Tiny"),
            "llama.context_length": value(4, 512),
            "llama.embedding_length": value(4, 64),
            "llama.block_count": value(4, 2),
            "llama.attention.head_count": value(4, 4),
            "llama.attention.head_count_kv": value(4, 2),
            "tokenizer.ggml.tokens": array(8, [f"t{n}" for n in range(2000)]),
            "tokenizer.chat_template": value(8, "{{ messages }}"),
        }
    )
    tensors: list[tuple[str, list[int], int, int]] = field(
        default_factory=lambda: [("token_embd.weight", [64, 4], 0, 0), ("output_norm.weight", [64], 8, 1024)]
    )
    data: bytes = bytes(1024 + 68)

    def build(self) -> bytes:
        head = self.magic + struct.pack(
            "<IQQ",
            self.version,
            len(self.tensors) if self.tensor_count is None else self.tensor_count,
            len(self.metadata) if self.key_count is None else self.key_count,
        )
        keys = b"".join(text(key) + content for key, content in self.metadata.items())
        rows = b"".join(
            text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)
            for name, shape, kind, offset in self.tensors
        )
        header = head + keys + rows
        return header + bytes(-len(header) % 32) + self.data
