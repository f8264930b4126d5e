"""Which engine runs a model, and with what options."""

from __future__ import annotations

import os

from pantry.core.errors import EngineError
from pantry.core.settings import Settings
from pantry.engines.adapter import ENGINES, LoadOptions
from pantry.store.database import Database
from pantry.store.models import InstalledModel

DEFAULT_CONTEXT = 8192
"""Tokens of context per answer when the settings do not say and the model could do more."""
SPEED = "engine speed"
"""The kind of measurement that `pantry doctor` stores, one row an engine, in generated tokens per second."""


def choose_engine(model: InstalledModel, settings: Settings, database: Database) -> str:
    """The name of the engine to run `model`: the one in the settings, else the fastest measured, else the first.

    Raises EngineError that gives each engine's reason when none can.
    """
    if settings.engine != "auto" and model.format in ENGINES.get(settings.engine).formats:
        names = [settings.engine]
    else:
        names = [name for name in ENGINES.names() if model.format in ENGINES.get(name).formats]
    reasons = {name: ENGINES.get(name).why_not_here(settings) for name in names}
    usable = [name for name in names if reasons[name] is None]
    if not usable:
        told = " ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise EngineError(f"No engine here runs {model.format} files. {told}".strip(), hint="See: pantry doctor")
    rows = database.rows("SELECT subject, value FROM measurements WHERE kind = ?", (SPEED,))
    speed = {row["subject"]: row["value"] for row in rows}
    return max(usable, key=lambda name: speed.get(name, 0.0))


def load_options(model: InstalledModel, settings: Settings) -> LoadOptions:
    """The options for `model`: the settings, limited to what the model was trained for."""
    trained = int(model.facts.get("context") or DEFAULT_CONTEXT)
    context = min(settings.context or DEFAULT_CONTEXT, trained)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 2)
    threads = settings.threads or max(1, cores - 1)
    return LoadOptions(context, settings.parallel, threads, settings.prompt_cache)
