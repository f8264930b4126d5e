"""How fast models write on this machine: measured by the answers they give, kept by model and engine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pantry.core.refs import Digest
from pantry.store.database import Database, now

KIND = "model speed"
"""The kind of these measurements in the database, one row a model, in generated tokens per second."""
FEWEST_TOKENS = 16
"""An answer shorter than this says nothing about speed."""
NEWEST_SHARE = 0.3
"""How much what was measured lately changes the figure that is kept."""


@dataclass(frozen=True)
class Speed:
    """How fast a model writes here: tokens per second, seconds until the first token of the last answer."""

    rate: float
    first_token: float | None
    date: str
    engine: str


class Speeds:
    """The speeds of answers since the last write; written with the usage, every few seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[tuple[Digest, str], tuple[float, float, float]] = {}

    def add(self, model: Digest, engine: str, timings: Mapping[str, Any] | None) -> None:
        """Note one answer by the engine's own timings, as llama.cpp's server gives them."""
        told = timings or {}
        try:
            tokens, seconds = float(told["predicted_n"]), float(told["predicted_ms"]) / 1000
            first = float(told["prompt_ms"]) / 1000
        except (KeyError, TypeError, ValueError, OverflowError):
            return
        if not all(map(math.isfinite, (tokens, seconds, first))) or tokens < FEWEST_TOKENS or seconds <= 0:
            return
        before, spent, _ = self._waiting.get((model, engine), (0.0, 0.0, 0.0))
        self._waiting[model, engine] = (before + tokens, spent + seconds, first)

    def flush(self) -> None:
        """Write what was measured; older figures of the same engine count on, those of another are replaced."""
        measured, self._waiting = self._waiting, {}
        kept = speeds_of(self._database) if measured else {}
        for (model, engine), (tokens, seconds, first) in measured.items():
            rate, old = tokens / seconds, kept.get(model)
            if old is not None and old.engine == engine:
                rate = (1 - NEWEST_SHARE) * old.rate + NEWEST_SHARE * rate
            keep_speed(self._database, model, engine, rate, first)


def keep_speed(database: Database, model: Digest, engine: str, rate: float, first_token: float | None) -> None:
    """Store a speed in tokens per second, measured now."""
    details = json.dumps({"engine": engine, "first_token": first_token})
    database.execute(
        "INSERT OR REPLACE INTO measurements (kind, subject, value, unit, details, measured_at)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (KIND, str(model), rate, "tokens/s", details, now()),
    )


def speeds_of(database: Database) -> dict[Digest, Speed]:
    """The speed of every model that was measured here."""
    found = {}
    for row in database.rows("SELECT subject, value, details, measured_at FROM measurements WHERE kind = ?", (KIND,)):
        details = json.loads(row["details"])
        date = str(row["measured_at"])[:10]
        found[Digest.parse(row["subject"])] = Speed(row["value"], details["first_token"], date, details["engine"])
    return found
