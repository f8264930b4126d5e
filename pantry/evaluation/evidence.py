"""What was measured on this machine of each model: speed, and capability scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pantry.core.refs import Digest
from pantry.evaluation.capabilities import Measurement
from pantry.evaluation.scores import scores_of
from pantry.evaluation.speeds import Speed, speeds_of
from pantry.store.database import Database


@dataclass(frozen=True)
class Evidence:
    """What was measured here of one model: capability scores, and speed."""

    scores: Mapping[str, Measurement] = field(default_factory=dict)
    speed: Speed | None = None


def evidence_of(database: Database) -> dict[Digest, Evidence]:
    """All that was measured here, by model."""
    scores, speeds = scores_of(database), speeds_of(database)
    return {model: Evidence(scores.get(model, {}), speeds.get(model)) for model in scores.keys() | speeds.keys()}
