"""What this machine has for running models, what would be slow or missing, and the next step."""

from __future__ import annotations

import asyncio
import ctypes.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from pantry import __version__
from pantry.core.errors import PantryError
from pantry.core.paths import Paths, make_private
from pantry.core.settings import Settings
from pantry.core.units import format_bytes
from pantry.engines.adapter import ENGINES
from pantry.engines.adapters.llama_cpp import cpu_features
from pantry.engines.choose import SPEED, choose_engine, load_options
from pantry.engines.measure import EngineSpeed, measure_engine
from pantry.engines.view import close_files, open_files
from pantry.formats.kinds import format_of
from pantry.install.installed import find_model
from pantry.operations.service import find_service
from pantry.starter import MODEL, STARTER
from pantry.store.database import now
from pantry.store.models import Store

Level = Literal["good", "note", "bad"]
LITTLE_MEMORY = 2_000_000_000  # bytes; below it only micro models fit
LITTLE_DISK = 5_000_000_000  # bytes; below it a usual model does not fit


@dataclass(frozen=True)
class Finding:
    """One thing looked at: what it is, what was found, whether that is good, and what to do about it."""

    name: str
    found: str
    level: Level = "good"
    next_step: str | None = None


def examine(paths: Paths, settings: Settings, *, measure: bool = True) -> Iterator[Finding]:
    """Look at everything, one finding after the other; the engine speeds come last and take some seconds."""
    yield Finding("Pantry", f"{__version__}, Python {platform.python_version()}, {platform.platform(terse=True)}")
    yield _home(paths)
    yield from _processor()
    yield _memory()
    yield _disk(paths)
    yield from _accelerators()
    info = find_service(paths)
    yield Finding("service", f"runs at {info.url}" if info else "not running", "good" if info else "note",
                  None if info else "pantry up --detach")  # fmt: skip
    yield from _engines(paths, settings, measure=measure)


def _home(paths: Paths) -> Finding:
    try:
        make_private(paths.data)
        make_private(paths.run)
        Store.open(paths).close()
    except PantryError as error:
        return Finding("home", error.message, "bad", error.hint)
    return Finding("home", str(paths.data))


def _processor() -> Iterator[Finding]:
    features = cpu_features()
    wide = [name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if name in features]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    found = f"{cores} cores, {platform.machine()}, {', '.join(wide) or 'features unknown'}"
    yield Finding("processor", found, "good" if cores > 1 else "note")
    if sys.platform == "linux" and ctypes.util.find_library("gomp") is None:
        yield Finding("libgomp", "missing", "bad", "Install it: apt install libgomp1 (or your system's package)")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    found = f"{format_bytes(memory.available)} free of {format_bytes(memory.total)}"
    if memory.available < LITTLE_MEMORY:
        return Finding("memory", found, "note", "Only very small models fit; close other programs.")
    return Finding("memory", found)


def _disk(paths: Paths) -> Finding:
    folder = next(folder for folder in (paths.data, *paths.data.parents) if folder.exists())
    free = shutil.disk_usage(folder).free
    if free < LITTLE_DISK:
        return Finding("disk", f"{format_bytes(free)} free", "note", "A usual model needs 1 to 8 GB.")
    return Finding("disk", f"{format_bytes(free)} free")


def _accelerators() -> Iterator[Finding]:
    if shutil.which("nvidia-smi") or Path("/dev/nvidia0").exists():
        step = "The built-in engine uses the processor only; name a llama-server built for CUDA in llama_server."
        yield Finding("accelerator", "an NVIDIA GPU", "note", step)
    elif Path("/dev/kfd").exists():
        step = "The built-in engine uses the processor only; name a llama-server built for ROCm in llama_server."
        yield Finding("accelerator", "an AMD GPU", "note", step)
    else:
        yield Finding("accelerator", "none found; models run on the processor")


def _engines(paths: Paths, settings: Settings, *, measure: bool) -> Iterator[Finding]:
    usable, kind = [], format_of(MODEL)
    for name in ENGINES.names():
        adapter = ENGINES.get(name)
        if kind is None or kind.name not in adapter.formats:
            continue
        if reason := adapter.why_not_here(settings):
            level: Level = "note" if name == "llama_server" and settings.llama_server is None else "bad"
            yield Finding(f"engine {name}", reason, level)
        else:
            usable.append(name)
    if not usable:
        yield Finding(
            "engines",
            f"none runs {kind.title if kind else MODEL} models here",
            "bad",
            "Install or name a llama-server.",
        )
    for name in usable:
        yield _measured(paths, settings, name) if measure else Finding(f"engine {name}", "usable; speed not measured")
    if usable and measure:
        with Store.open(paths) as store:
            chosen = choose_engine(find_model(paths, store, STARTER), settings, store.database)
        why = "the faster one here" if len(usable) > 1 and settings.engine == "auto" else "as set or the only one"
        yield Finding("engine used", f"{chosen} ({why})")


def _measured(paths: Paths, settings: Settings, engine: str) -> Finding:
    try:
        speed = _measure(paths, settings, engine)
    except PantryError as error:
        return Finding(f"engine {engine}", error.message, "bad", error.hint)
    found = f"{speed.generation:,.0f} tokens a second written, {speed.prompt:,.0f} read (starter model)"
    return Finding(f"engine {engine}", found)


def _measure(paths: Paths, settings: Settings, engine: str) -> EngineSpeed:
    """Measure an engine with the starter model and store the result, which choosing an engine uses."""
    make_private(paths.run)
    with Store.open(paths) as store:
        model = find_model(paths, store, STARTER)
        files = open_files(paths.run, model, store.verified_parts(model))
        try:
            speed = asyncio.run(measure_engine(engine, files, load_options(model, settings), settings, paths))
        finally:
            close_files(files)
        details = json.dumps({"prompt": speed.prompt, "model": str(model.digest), "machine": platform.machine()})
        store.database.execute(
            "INSERT OR REPLACE INTO measurements (kind, subject, value, unit, details, measured_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (SPEED, engine, speed.generation, "tokens/s", details, now()),
        )
    return speed
