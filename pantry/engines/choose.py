"""Which engine runs a model, and with what options."""

from __future__ import annotations

import os

from pantry.core.errors import EngineError
from pantry.core.settings import Settings
from pantry.engines.adapter import ENGINES, EngineAdapter, LoadOptions, Serves
from pantry.formats.kinds import format_called
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
    if reason := why_no_engine(model):
        raise EngineError(reason, hint="See: pantry doctor")
    if settings.engine != "auto" and model.format in ENGINES.get(settings.engine).formats:
        names = [settings.engine]
    else:
        names = [name for name in ENGINES.names() if model.format in ENGINES.get(name).formats]
    reasons = {name: ENGINES.get(name).why_not_here(settings) for name in names}
    usable = [name for name in names if reasons[name] is None]
    if not usable:
        told = " ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise EngineError(f"No engine here runs {model.kind.title} files. {told}", hint="See: pantry doctor")
    rows = database.rows("SELECT subject, value FROM measurements WHERE kind = ?", (SPEED,))
    speed = {row["subject"]: row["value"] for row in rows}
    return max(usable, key=lambda name: speed.get(name, 0.0))


def has_engine(model: InstalledModel) -> bool:
    """Whether an engine is installed that runs models of this format, here or where it can run."""
    return any(model.format in ENGINES.get(name).formats for name in ENGINES.names())


def why_no_engine(model: InstalledModel) -> str | None:
    """Why no engine that is installed runs models of this format, with what each does run; None when one does."""
    if has_engine(model):
        return None
    formats = {name: ENGINES.get(name).formats for name in ENGINES.names()}
    runs = [f"{name} runs {', '.join(sorted(map(_title, each)))}" for name, each in formats.items()]
    return f"No engine here runs {model.kind.title} models, as {model.name} is: {'; '.join(runs)}."


def titles_run() -> str:
    """What users call the formats of weights that the installed engines run, in words."""
    formats = {each for name in ENGINES.names() for each in ENGINES.get(name).formats}
    return ", ".join(sorted(_title(each) for each in formats if format_called(each).tensors))


def serves(adapter: EngineAdapter, model: InstalledModel) -> frozenset[Serves]:
    """What of its engine's services a model can give: no chat without a template, no vision without a projector."""
    lacking: set[Serves] = set()
    if not model.facts.get("chat"):
        lacking.add("chat")
    if not any(part.role == "projector" for part in model.parts) and not model.kind.folder:
        lacking.add("vision")
    return adapter.serves - lacking


def _title(format: str) -> str:
    return format_called(format).title


def load_options(model: InstalledModel, settings: Settings) -> LoadOptions:
    """The options for `model`: the settings, limited to what the model was trained for."""
    trained = int(model.facts.get("context") or DEFAULT_CONTEXT)
    context = min(settings.context or DEFAULT_CONTEXT, trained)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 2)
    threads = settings.threads or max(1, cores - 1)
    return LoadOptions(context, settings.parallel, threads, settings.prompt_cache)
