"""What fits this machine: memory for each quantisation and context, layers for a graphics card, expected speed."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.memory import KV_ELEMENT, KV_SHARE, USUAL_CONTEXT, active_weights
from pantry.catalogue.query import Order, Query
from pantry.catalogue.schema import ModelEntry
from pantry.core.errors import NotFoundError
from pantry.core.files import write_atomically
from pantry.core.paths import Paths
from pantry.engines.machine import Machine
from pantry.evaluation.speeds import Speed, speeds_of
from pantry.formats.memory import (
    Architecture,
    Layer,
    Need,
    estimate,
    layers_that_fit,
    longest_context,
)
from pantry.formats.model_files import architecture_of_file
from pantry.selection import READABLE
from pantry.store.models import InstalledModel, Store

QUANTISATIONS: dict[str, float] = {"Q4_K_M": 4.85, "Q5_K_M": 5.69, "Q6_K": 6.56, "Q8_0": 8.5, "F16": 16.0}
"""Usual quantisations and their bits a weight, smallest first (llama.cpp, tools/quantize)."""
CONTEXTS = (4096, 8192, 16384, 32768, 65536, 131072)  # tokens, for the table
SPARE = 0.10
"""Share of the free memory that is left to others."""
EFFICIENCY = 0.6
"""Share of the plain copy speed that generation reaches; weights are read once for each token."""
SpeedClass = Literal["instant", "fluent", "readable", "slow", "too slow", "unknown"]
_CLASSES: tuple[tuple[float, SpeedClass], ...] = ((50, "instant"), (15, "fluent"), (READABLE, "readable"), (1, "slow"))


@dataclass(frozen=True)
class FitRow:
    """One way to run a model, and whether it fits. Speed is an estimate in tokens per second."""

    quantisation: str
    context: int
    need: Need
    fits: bool
    speed: float | None

    @property
    def speed_class(self) -> SpeedClass:
        """How the speed feels: instant, fluent, readable, slow, too slow."""
        return speed_class(self.speed)


@dataclass(frozen=True)
class Fit:
    """Whether and how a model fits here. `best` is the finest quantisation that fits at a readable speed."""

    model: str
    installed: bool
    exact: bool
    """From the file's header; otherwise from the catalogue's figures."""
    rows: tuple[FitRow, ...]
    best: FitRow | None
    longest_context: int
    """With the best quantisation, or the smallest when none fits."""
    device_layers: int
    layers: int
    measured: Speed | None = None
    """The speed of its answers on this machine; then that of the rows, too."""

    def to_json(self) -> dict[str, Any]:
        """The result for programs; bytes."""

        def row(each: FitRow) -> dict[str, Any]:
            return {
                "quantisation": each.quantisation,
                "context": each.context,
                "ram": each.need.ram,
                "vram": each.need.vram,
                "fits": each.fits,
                "tokens_per_second": each.speed,
                "speed": each.speed_class,
                "parts": asdict(each.need),
            }

        return {
            "model": self.model,
            "installed": self.installed,
            "exact": self.exact,
            "best": row(self.best) if self.best else None,
            "longest_context": self.longest_context,
            "device_layers": self.device_layers,
            "layers": self.layers,
            "measured": asdict(self.measured) if self.measured else None,
            "rows": [row(each) for each in self.rows],
        }


def speed_class(speed: float | None) -> SpeedClass:
    """The class of a speed in tokens per second."""
    if speed is None:
        return "unknown"
    return next((name for least, name in _CLASSES if speed >= least), "too slow")


def fit_file(path: Path, machine: Machine, *, cache_type: str = "f16", parallel: int = 1) -> Fit:
    """How the model file at `path` (GGUF or safetensors) fits. Raises BadFileError when it is damaged."""
    architecture, quantisation = architecture_of_file(path)
    return _fit(
        path.name, {quantisation: architecture}, machine, None, cache_type, parallel, installed=False, exact=True
    )


def fit_installed(
    paths: Paths, store: Store, model: InstalledModel, machine: Machine, *, cache_type: str = "f16", parallel: int = 1
) -> Fit:
    """How an installed model fits, with the speed measured here if there is one.

    The figures of its header are kept by digest, so the file is read once.
    """
    architecture = _kept_architecture(paths, store, model)
    quantisation = str(model.facts.get("quantisation") or model.format)
    name = str(model.name)
    fit = _fit(name, {quantisation: architecture}, machine, None, cache_type, parallel, installed=True, exact=True)
    measured = speeds_of(store.database).get(model.digest)
    if measured is None:
        return fit
    rows = tuple(replace(row, speed=measured.rate) for row in fit.rows)
    best = replace(fit.best, speed=measured.rate) if fit.best else None
    return replace(fit, rows=rows, best=best, measured=measured)


def fit_entry(model: ModelEntry, machine: Machine, *, cache_type: str = "f16", parallel: int = 1) -> Fit:
    """How a model of the catalogue would fit, in every usual quantisation. Raises NotFoundError."""
    if model.remote:
        raise NotFoundError(f"{model.id} runs at a provider; it needs no memory here.")
    if model.parameters is None:
        raise NotFoundError(f"The catalogue does not know the size of {model.id}, so its memory cannot be estimated.")
    options = {name: architecture_from_entry(model, bits) for name, bits in QUANTISATIONS.items()}
    return _fit(model.id, options, machine, model, cache_type, parallel, installed=False, exact=False)


def what_fits(catalogue: Catalogue, machine: Machine, *, limit: int = 20, cache_type: str = "f16") -> list[Fit]:
    """The strongest models of the catalogue that fit here and can be downloaded; those of a readable speed first."""
    room = int(_room(machine)) + machine.vram
    query = Query(max_memory=room, obtainable=True, local=True)
    models = catalogue.shortlist(query, [Order("quality")], 10 * limit)
    fits = [fit_entry(model, machine, cache_type=cache_type) for model in models if model.parameters]
    fitting = [each for each in fits if each.best is not None]
    return sorted(fitting, key=lambda each: (each.best.speed or 0) < READABLE if each.best else True)[:limit]


def architecture_from_entry(model: ModelEntry, bits: float) -> Architecture:
    """The architecture of a catalogue model at `bits` a weight. Without a known shape the cache is a share of it."""
    weights = int((model.parameters or 0) * bits / 8)
    shape = model.shape
    if shape is not None:
        width = 2 * shape.kv_heads * shape.head_dim
        full = shape.layers if shape.full_layers is None else shape.full_layers
        layers = tuple(
            Layer(weights // shape.layers, width, shape.window if number >= full else None)
            for number in range(shape.layers)
        )
    else:
        usual = (model.parameters or 0) * QUANTISATIONS["Q4_K_M"] / 8 * KV_SHARE
        layers = (Layer(weights, max(1, int(usual / (USUAL_CONTEXT * KV_ELEMENT)))),)
    rest = weights - sum(layer.weights for layer in layers)
    return Architecture(layers, 0, rest, vocabulary=100_000, width=4096, feed_forward=12288, context=model.context)


def _fit(
    name: str,
    options: dict[str, Architecture],
    machine: Machine,
    entry: ModelEntry | None,
    cache_type: str,
    parallel: int,
    *,
    installed: bool,
    exact: bool,
) -> Fit:
    rows: list[FitRow] = []
    room = _room(machine)
    largest = next(iter(options.values())).context or USUAL_CONTEXT
    usual = min(USUAL_CONTEXT, largest)
    contexts = sorted({usual, *(each for each in CONTEXTS if each <= largest)})
    for quantisation, architecture in options.items():
        for context in contexts:
            layers = (
                layers_that_fit(architecture, context, machine.vram, cache_type=cache_type, parallel=parallel)
                if machine.vram
                else 0
            )
            need = estimate(architecture, context, cache_type=cache_type, parallel=parallel, device_layers=layers)
            speed = _speed(architecture, machine, entry)
            rows.append(FitRow(quantisation, context, need, need.ram <= room, speed))
    best = _best([row for row in rows if row.fits and row.context == usual])
    chosen = options[best.quantisation] if best else next(iter(options.values()))
    return Fit(
        model=name,
        installed=installed,
        exact=exact,
        rows=tuple(rows),
        best=best,
        longest_context=longest_context(chosen, int(room), cache_type=cache_type, parallel=parallel),
        device_layers=best.need.offloaded_layers if best else 0,
        layers=len(chosen.layers),
    )


def _best(fitting: list[FitRow]) -> FitRow | None:
    """The finest quantisation that still writes as fast as people read; else the fastest, which is the smallest."""
    usable = [row for row in fitting if row.speed is None or row.speed >= READABLE]
    return usable[-1] if usable else fitting[0] if fitting else None


def _room(machine: Machine) -> float:
    """Bytes of free memory that a model may take."""
    return machine.free * (1 - SPARE)


def _speed(architecture: Architecture, machine: Machine, entry: ModelEntry | None) -> float | None:
    """Tokens per second: the weights read for each token against the memory's speed."""
    read = float(architecture.weights)
    if entry is not None and entry.parameters:
        read *= (active_weights(entry) or entry.parameters) / entry.parameters
    return EFFICIENCY * machine.bandwidth / read if read > 0 else None


def entry_speed(model: ModelEntry, bandwidth: float) -> float | None:
    """Tokens per second that a 4-bit file of a catalogue model would reach here; None when its size is unknown."""
    weights = active_weights(model)
    return EFFICIENCY * bandwidth / (weights * QUANTISATIONS["Q4_K_M"] / 8) if weights else None


def weights_for_speed(speed: float, bandwidth: float) -> int:
    """The most weights per token with which a 4-bit file still reaches `speed` tokens per second here."""
    return int(EFFICIENCY * bandwidth / (speed * QUANTISATIONS["Q4_K_M"] / 8))


def _kept_architecture(paths: Paths, store: Store, model: InstalledModel) -> Architecture:
    file = paths.data / "shapes" / f"{model.digest.hex}.json"
    try:
        kept = json.loads(file.read_text())
        return replace(Architecture(**kept), layers=tuple(Layer(**layer) for layer in kept["layers"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    architecture, _ = model.kind.architecture(store.verified_parts(model))
    write_atomically(file, json.dumps(asdict(architecture)).encode())
    return architecture
