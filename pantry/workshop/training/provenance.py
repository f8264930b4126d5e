"""What a training was made of and made on, as one JSON object that travels with the model."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

from pantry import __version__
from pantry.workshop.data.hub_card import licence_of
from pantry.workshop.data.hub_dataset import PinnedDataset
from pantry.workshop.recipe import RecipeFolder
from pantry.workshop.training.loop import HeldOut, Trainer

_POWERCAP = Path("/sys/class/powercap")
_PACKAGES = ("torch", "tokenizers", "numpy", "safetensors", "gguf")


class EnergyMeter:
    """Energy of the processor packages in joules, where the kernel lets us read it (Intel RAPL); else None."""

    def __init__(self) -> None:
        self._before = dict(_counters())

    def joules(self) -> float | None:
        """Since the meter was made. A counter that wrapped round is counted once."""
        now = dict(_counters())
        if not self._before or now.keys() != self._before.keys():
            return None
        total = 0
        for place, (value, limit) in now.items():
            spent = value - self._before[place][0]
            total += spent if spent >= 0 else spent + limit
        return total / 1e6


def _counters() -> Iterator[tuple[str, tuple[int, int]]]:
    """Microjoules and where the counter wraps, by package."""
    for place in sorted(_POWERCAP.glob("intel-rapl:?")):
        try:
            yield place.name, (int((place / "energy_uj").read_text()), int((place / "max_energy_range_uj").read_text()))
        except (OSError, ValueError):
            continue


def describe(
    recipe: RecipeFolder, trainer: Trainer, held_out: HeldOut, samples: list[str], joules: float | None
) -> dict[str, Any]:
    """The provenance of the trained model."""
    data, progress = trainer.data, trainer.progress
    return {
        "name": recipe.name,
        "data": {
            "digest": data.data_digest,
            "files": [{"path": name, "digest": digest, "size": size} for name, digest, size in data.files],
            **_dataset(data.dataset),
            "documents": data.cleaned.documents,
            "kept": data.cleaned.kept,
            "removed": dict(data.cleaned.removed),
            "scrubbed": dict(data.cleaned.scrubbed),
            "training_tokens": len(data.train),
            "held_out_tokens": len(data.validation),
        },
        "recipe": {"digest": recipe.settings.digest(), "settings": recipe.settings.model_dump()},
        "code": {"pantry": __version__},
        "environment": {
            "python": platform.python_version(),
            "system": platform.platform(),
            **{name: version(name) for name in _PACKAGES},
        },
        "hardware": {
            "processor": _processor(),
            "cores": psutil.cpu_count(),
            "threads": torch.get_num_threads(),
            "memory": psutil.virtual_memory().total,
            "device": torch.cuda.get_device_name() if trainer.device == "cuda" else trainer.device,
        },
        "seed": recipe.settings.seed,
        "parameters": trainer.shape.parameters,
        "steps": progress.step,
        "tokens": progress.tokens,
        "seconds": round(progress.seconds, 3),
        "energy_joules": joules,
        "held_out_loss": held_out.loss,
        "held_out_bits_per_byte": held_out.bits_per_byte,
        "samples": samples,
    }


def _dataset(dataset: PinnedDataset | None) -> dict[str, Any]:
    if dataset is None:
        return {}
    return {
        "dataset": {
            "id": dataset.id, "config": dataset.config, "split": dataset.split, "revision": dataset.revision,
            "licence": licence_of(dataset),
        }
    }  # fmt: skip


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    found = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(found, platform.processor() or platform.machine())
