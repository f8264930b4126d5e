"""Capabilities that models are scored on, and one measurement of one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One capability score measured here (0 to 10), and with what."""

    score: float
    date: str
    engine: str | None = None
    quantisation: str | None = None


KNOWN_CAPABILITIES = frozenset({"general", "assistant", "coding", "writing"})
"""Capabilities that every Pantry knows; evaluation and the catalogue add more."""
