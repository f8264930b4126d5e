"""A model that might be chosen, and what it lacks to meet a requirement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pantry.catalogue.rights import Answer, parse_use
from pantry.catalogue.schema import Use
from pantry.catalogue.tags import YearTag, satisfied
from pantry.core.units import format_bytes
from pantry.policy import Decision
from pantry.selection.request import Need, Vocabulary

State = Literal["loaded", "installed", "available"]
STATES: tuple[State, ...] = get_args(State)


@dataclass(frozen=True)
class Measurement:
    """One capability score measured here (0 to 10), and with what."""

    score: float
    date: str
    engine: str | None = None
    quantisation: str | None = None


@dataclass(frozen=True)
class Candidate:
    """A model that might be chosen. Sizes in bytes, speed in tokens per second; None: not known."""

    name: str
    state: State
    family: str | None = None
    tags: frozenset[str] = frozenset()
    context: int | None = None
    parameters: int | None = None
    memory: int | None = None
    download: int | None = None
    remote: bool = False
    reads: frozenset[str] = frozenset({"text"})
    declared: Mapping[str, float] = field(default_factory=dict)
    measured: Mapping[str, Measurement] = field(default_factory=dict)
    speed: float | None = None
    speed_measured: bool = False
    answers: Mapping[Use, Answer] = field(default_factory=dict)
    decision: Decision | None = None
    released: str = ""
    shortlist: bool = False

    def score(self, capability: str) -> tuple[float | None, bool]:
        """The score of a capability, and whether it was measured here. None: not rated."""
        if capability in self.measured:
            return self.measured[capability].score, True
        declared = self.declared.get(capability, -1.0)
        return (declared, False) if declared >= 0 else (None, False)


def lacks(candidate: Candidate, need: Need, vocabulary: Vocabulary) -> str | None:
    """What `candidate` lacks to meet `need`, in words; None when it meets it. Unknown never meets a requirement."""
    if need.kind == "tag":
        return _lacks_tag(candidate, need.name, vocabulary)
    if need.kind == "capability":
        score, measured = candidate.score(need.name)
        if score is None:
            return f"{need.name} is not rated, wanted {need.at_least:g}"
        how = "measured" if measured else "declared"
        return None if score >= (need.at_least or 0) else f"{need.name} {score:g} ({how}), wanted {need.at_least:g}"
    if need.kind == "licence":
        answer = candidate.answers.get(parse_use(need.name))
        if answer is not None and answer.verdict in ("allowed", "conditional"):
            return None
        return f"{need.name} use is {answer.words if answer else 'unknown'}"
    if need.kind == "family":
        return None if candidate.family == need.name else f"family {candidate.family or 'unknown'}, wanted {need.name}"
    if need.kind == "reads":
        return None if need.name in candidate.reads else f"does not read {need.name}"
    if need.kind == "local":
        return "runs at a provider" if candidate.remote else None
    return _lacks_amount(candidate, need)


def _lacks_tag(candidate: Candidate, tag: str, vocabulary: Vocabulary) -> str | None:
    floor = vocabulary.floors.get(tag)
    if floor is not None:
        capability, least = floor
        measured = candidate.measured.get(capability)
        if measured is not None:
            if measured.score >= least:
                return None
            return f"tag {tag} does not hold: {capability} was measured at {measured.score:g}"
    if satisfied(tag, candidate.tags):
        return None
    mine = [held for held in candidate.tags if YearTag.parse(held)] if YearTag.parse(tag) else []
    return f"tag {tag}" + (f" (has {max(mine)})" if mine else "")


def _lacks_amount(candidate: Candidate, need: Need) -> str | None:
    values: dict[str, float | None] = {
        "context": candidate.context,
        "params": candidate.parameters,
        "speed": candidate.speed,
        "ram": candidate.memory,
        "download": 0 if candidate.state != "available" else candidate.download,
    }
    words = {"context": "context", "params": "size", "speed": "speed", "ram": "memory", "download": "download"}[
        need.kind
    ]
    value = 0.0 if candidate.remote and need.kind in ("ram", "download") else values[need.kind]
    wanted = need.label
    if value is None:
        return f"{words} is not known, wanted {wanted}"
    shown = format_bytes(value) if need.kind in ("ram", "download") else f"{value:.15g}"
    if need.at_least is not None and value < need.at_least:
        return f"{words} {shown}, wanted {wanted}"
    if need.at_most is not None and value > need.at_most:
        return f"{words} {shown}, wanted {wanted}"
    return None
