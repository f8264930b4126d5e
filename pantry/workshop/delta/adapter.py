"""The matrices of a LoRA, from a folder as PEFT writes it: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pantry.core.errors import BadFileError, NotFoundError, UsageError
from pantry.core.files import read_bounded
from pantry.formats.dtypes import CASTABLE, Words, element_of
from pantry.workshop.delta.payload import MAX_FACTOR
from pantry.workshop.delta.sources import Located, Source

CONFIG_NAME = "adapter_config.json"
MAX_CONFIG = 10_000_000  # bytes
_PREFIX = "base_model.model."


@dataclass(frozen=True)
class Factors:
    """The two factors of one tensor's change, as stored: `up` [rows, rank], `down` [rank, columns]."""

    dtype: str
    up: Words
    down: Words
    scale: float

    @property
    def rank(self) -> int:
        return len(self.down)


class LoraAdapter:
    """The factors in an adapter folder, by the name of the weight they change. Close the source after use."""

    def __init__(self, folder: Path) -> None:
        self._config = _read_config(folder)
        self.source = Source.open(folder)
        self._pairs = _pair_up(self.source, folder)

    @property
    def names(self) -> list[str]:
        """The weights that the adapter changes."""
        return sorted(self._pairs)

    def factors(self, name: str) -> Factors | None:
        """The factors for the weight `name`, or None. Raises BadFileError when they do not fit each other."""
        pair = self._pairs.get(name)
        if pair is None:
            return None
        down, up = (self._matrix(located) for located in pair)
        dtype = pair[0].tensor.dtype
        if down.shape[0] != up.shape[1] or pair[1].tensor.dtype != dtype:
            raise BadFileError(
                f"The adapter's matrices for {name!r} do not fit: {down.shape} of {dtype}, "
                f"{up.shape} of {pair[1].tensor.dtype}."
            )
        scale = self._scale(name, len(down))
        if self._config.get("fan_in_fan_out"):
            up, down = np.ascontiguousarray(down.T), np.ascontiguousarray(up.T)
        return Factors(dtype, up, down, scale)

    def _matrix(self, located: Located) -> Words:
        tensor = located.tensor
        if len(tensor.shape) != 2 or tensor.dtype not in CASTABLE or tensor.length > MAX_FACTOR:
            raise BadFileError(
                f"The adapter's {tensor.name!r} is {tensor.dtype} of shape {list(tensor.shape)}; "
                f"a matrix of f16, bf16, f32 or f64 of at most {MAX_FACTOR >> 20} MiB was expected."
            )
        return np.frombuffer(located.read(0, tensor.length), element_of(tensor.dtype).words).reshape(tensor.shape)

    def _scale(self, name: str, rank: int) -> float:
        """alpha / rank, or alpha / sqrt(rank) for rank-stabilised LoRA; a pattern may set alpha for this weight."""
        module = name.removesuffix(".weight")
        patterns = self._config.get("alpha_pattern") or {}
        fitting = [value for key, value in patterns.items() if module == key or module.endswith(f".{key}")]
        alpha = fitting[0] if fitting else self._config.get("lora_alpha", rank)
        if not isinstance(alpha, int | float):
            raise BadFileError(f"{CONFIG_NAME}: lora_alpha is {alpha!r}; a number was expected.")
        return float(alpha) / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    def close(self) -> None:
        """Close the adapter's files."""
        self.source.close()


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / CONFIG_NAME
    if not file.is_file():
        raise NotFoundError(
            f"{folder} has no {CONFIG_NAME}.", hint="Give the folder that the adapter was saved to (PEFT's layout)."
        )
    content = read_bounded(file, MAX_CONFIG)
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadFileError(f"{file} is not valid JSON: {error}.") from None
    if not isinstance(config, dict) or not isinstance(config.get("alpha_pattern") or {}, dict):
        raise BadFileError(f"{file} is not an adapter's configuration.")
    if config.get("use_dora"):
        raise UsageError(
            "This adapter is a DoRA, whose merge is not a sum of two matrices.", hint="Leave --adapter out."
        )
    return config


def _pair_up(source: Source, folder: Path) -> dict[str, tuple[Located, Located]]:
    """(A, B) by the name of the weight: `base_model.model.X.lora_A.weight` belongs to `X.weight`."""
    pairs: dict[str, tuple[Located, Located]] = {}
    for name, located in source.tensors.items():
        module, found, _ = name.removeprefix(_PREFIX).partition(".lora_A.")
        other = source.tensors.get(name.replace(".lora_A.", ".lora_B.", 1))
        if found and other is not None:
            pairs[f"{module}.weight"] = (located, other)
    if not pairs:
        raise BadFileError(f"{folder} holds no pair of LoRA matrices (…lora_A.weight and …lora_B.weight).")
    return pairs
