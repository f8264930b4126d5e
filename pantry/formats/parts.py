"""The files that make up a model: what each is for, told by its name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

Role = Literal["weights", "projector", "adapter", "config", "tokenizer", "template"]
"""What an engine needs a file for. Cards and licences are files of a package, not parts of a model."""

_TENSORS = (".gguf", ".safetensors", ".bin", ".pth", ".pt")
_BESIDE = (".json", ".txt", ".model", ".jinja", ".md", ".tiktoken")
_TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt", "merges.txt", "added_tokens.json",
               "special_tokens_map.json")  # fmt: skip
_TEMPLATES = ("chat_template.json", "chat_template.jinja")
_FORMAT_WORD = re.compile(r"[-_.](?:gguf|safetensors)$", re.IGNORECASE)


@dataclass(frozen=True)
class PlacedPart:
    """One file of a model: its path in the model, its role, and where it lies, under whatever name."""

    path: str
    role: Role
    place: Path


def of_role(parts: Iterable[PlacedPart], role: Role) -> list[Path]:
    """Where the parts of that role lie, in order of their paths in the model."""
    return [part.place for part in sorted(parts, key=lambda part: part.path) if part.role == role]


def role_of(path: str) -> Role | None:
    """The role that a file's name tells; None for files that no engine needs."""
    name = PurePosixPath(path.lower()).name
    if name.endswith(".gguf"):
        return "projector" if "mmproj" in name else "weights"
    if name.endswith(".safetensors"):
        return "adapter" if name.startswith("adapter_model") else "weights"
    if name.endswith(".echo"):
        return "weights"
    if name in _TEMPLATES:
        return "template"
    if name in _TOKENIZERS or name.endswith((".model", ".tiktoken")):
        return "tokenizer"
    return "config" if name.endswith(("config.json", ".index.json")) else None


def is_pickle(path: str) -> bool:
    """Whether files of such a name are pickles, which can run code when they are opened."""
    from pantry.formats.safety import PICKLE_SUFFIXES  # with all the readers, which listing models does without

    return path.lower().endswith((*PICKLE_SUFFIXES, ".npy"))


def may_hold_tensors(path: str) -> bool:
    """Whether files of such a name hold the weights of models, in any format that is looked into."""
    return path.lower().endswith(_TENSORS)


def goes_along(path: str) -> bool:
    """Whether a file of such a name is taken beside weights: configuration, tokenizer, licence, card. Never code."""
    return path.endswith(_BESIDE) or path in ("LICENSE", "NOTICE")


def without_format(name: str) -> str:
    """A name without the format at its end, as hubs add it: `Fox-1B-GGUF` is `Fox-1B`."""
    return _FORMAT_WORD.sub("", name)
