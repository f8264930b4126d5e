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
    speed_source: str = ""
    """Date and engine of a measured speed."""
    unfit: str | None = None
    """Why it cannot run on this machine, in words; None when it can or nothing is known."""
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


def meets(candidate: Candidate, need: Need, vocabulary: Vocabulary) -> bool:
    """Whether `candidate` meets `need`. Unknown never meets a requirement; what was measured outranks a tag."""
    if need.kind == "tag":
        floor = vocabulary.floors.get(need.name)
        measured = candidate.measured.get(floor[0]) if floor else None
        if floor and measured is not None:
            return measured.score >= floor[1]
        return satisfied(need.name, candidate.tags)
    if need.kind == "capability":
        score, _ = candidate.score(need.name)
        return score is not None and score >= (need.at_least or 0)
    if need.kind == "licence":
        answer = candidate.answers.get(parse_use(need.name))
        return answer is not None and answer.verdict in ("allowed", "conditional")
    if need.kind == "family":
        return candidate.family == need.name
    if need.kind == "reads":
        return need.name in candidate.reads
    if need.kind == "local":
        return not candidate.remote
    value = _amount(candidate, need)
    if value is None or (need.at_least is not None and value < need.at_least):
        return False
    return need.at_most is None or value <= need.at_most


def lacks(candidate: Candidate, need: Need, vocabulary: Vocabulary) -> str | None:
    """What `candidate` lacks to meet `need`, in words; None when it meets it."""
    if meets(candidate, need, vocabulary):
        return None
    if need.kind == "tag":
        return _lacks_tag(candidate, need.name, vocabulary)
    if need.kind == "capability":
        score, measured = candidate.score(need.name)
        if score is None:
            return f"{need.name} is not rated, wanted {need.at_least:g}"
        return f"{need.name} {score:g} ({'measured' if measured else 'declared'}), wanted {need.at_least:g}"
    if need.kind == "licence":
        answer = candidate.answers.get(parse_use(need.name))
        return f"{need.name} use is {answer.words if answer else 'unknown'}"
    if need.kind == "family":
        return f"family {candidate.family or 'unknown'}, wanted {need.name}"
    if need.kind == "reads":
        return f"does not read {need.name}"
    if need.kind == "local":
        return "runs at a provider"
    words = {"ram": "memory", "params": "size"}.get(need.kind, need.kind)
    value = _amount(candidate, need)
    if value is None:
        return f"{words} is not known, wanted {need.label}"
    shown = format_bytes(value) if need.kind in ("ram", "download") else f"{value:.15g}"
    return f"{words} {shown}, wanted {need.label}"


def _amount(candidate: Candidate, need: Need) -> float | None:
    """The candidate's figure that `need` limits; what runs elsewhere or is here already takes nothing."""
    if need.kind == "context":
        return candidate.context
    if need.kind == "params":
        return candidate.parameters
    if need.kind == "speed":
        return candidate.speed
    if candidate.remote:
        return 0
    if need.kind == "ram":
        return candidate.memory
    return candidate.download if candidate.state == "available" else 0


def _lacks_tag(candidate: Candidate, tag: str, vocabulary: Vocabulary) -> str:
    floor = vocabulary.floors.get(tag)
    measured = candidate.measured.get(floor[0]) if floor else None
    if floor and measured is not None:
        return f"tag {tag} does not hold: {floor[0]} was measured at {measured.score:g}"
    mine = [held for held in candidate.tags if YearTag.parse(held)] if YearTag.parse(tag) else []
    return f"tag {tag}" + (f" (has {max(mine)})" if mine else "")
