"""A model that might be chosen, and what it lacks to meet a requirement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from pantry.catalogue.rights import Answer, parse_use
from pantry.catalogue.schema import Use
from pantry.catalogue.tags import YearTag, satisfied
from pantry.core.units import format_bytes
from pantry.evaluation.capabilities import Measurement
from pantry.policy.decision import Decision
from pantry.selection.request import Need, Vocabulary

State = Literal["loaded", "installed", "available"]
STATES: tuple[State, ...] = get_args(State)


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
    return test_of(need, vocabulary)(candidate)


def test_of(need: Need, vocabulary: Vocabulary) -> Callable[[Candidate], bool]:
    """What tells whether a candidate meets `need`, made once for many candidates."""
    name, least = need.name, need.at_least or 0
    if need.kind == "tag":
        return _tag_test(name, vocabulary)
    if need.kind == "capability":
        return lambda candidate: (score := candidate.score(name)[0]) is not None and score >= least
    if need.kind == "licence":
        use = parse_use(name)
        return lambda candidate: (
            (answer := candidate.answers.get(use)) is not None and answer.verdict in ("allowed", "conditional")
        )
    if need.kind == "family":
        return lambda candidate: candidate.family == name
    if need.kind == "reads":
        return lambda candidate: name in candidate.reads
    if need.kind == "local":
        return lambda candidate: not candidate.remote
    lowest = need.at_least if need.at_least is not None else float("-inf")
    highest = need.at_most if need.at_most is not None else float("inf")
    amount = _AMOUNTS[need.kind]
    return lambda candidate: (value := amount(candidate)) is not None and lowest <= value <= highest


def _tag_test(tag: str, vocabulary: Vocabulary) -> Callable[[Candidate], bool]:
    floor, year = vocabulary.floors.get(tag), YearTag.parse(tag)

    def test(candidate: Candidate) -> bool:
        if floor and (measured := candidate.measured.get(floor[0])) is not None:
            return measured.score >= floor[1]
        return tag in candidate.tags if year is None else satisfied(tag, candidate.tags)

    return test


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
    value = _AMOUNTS[need.kind](candidate)
    if value is None:
        return f"{words} is not known, wanted {need.label}"
    shown = format_bytes(value) if need.kind in ("ram", "download") else f"{value:.15g}"
    return f"{words} {shown}, wanted {need.label}"


def _download(candidate: Candidate) -> float | None:
    """What is elsewhere or here already needs no download."""
    return 0 if candidate.remote or candidate.state != "available" else candidate.download


_AMOUNTS: dict[str, Callable[[Candidate], float | None]] = {
    "context": lambda candidate: candidate.context,
    "params": lambda candidate: candidate.parameters,
    "speed": lambda candidate: candidate.speed,
    "ram": lambda candidate: 0 if candidate.remote else candidate.memory,
    "download": _download,
}
"""The candidate's figure that a requirement limits."""


def _lacks_tag(candidate: Candidate, tag: str, vocabulary: Vocabulary) -> str:
    floor = vocabulary.floors.get(tag)
    measured = candidate.measured.get(floor[0]) if floor else None
    if floor and measured is not None:
        return f"tag {tag} does not hold: {floor[0]} was measured at {measured.score:g}"
    mine = [held for held in candidate.tags if YearTag.parse(held)] if YearTag.parse(tag) else []
    return f"tag {tag}" + (f" (has {max(mine)})" if mine else "")
