"""The choice itself: who is eligible, who comes first, and the words that explain it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from pantry.catalogue.rights import parse_use
from pantry.core.errors import ModelNotFoundError, UsageError, did_you_mean
from pantry.core.units import format_rate
from pantry.selection.candidate import Candidate, State, lacks, test_of
from pantry.selection.ranking import behind, sorting_key, speed_words
from pantry.selection.request import Fallback, Need, Request, Vocabulary

_ALLOWED_STATES: dict[Fallback, tuple[State, ...]] = {
    "none": ("loaded", "installed"),
    "load": ("loaded", "installed"),
    "requirements": ("loaded",),
    "requirements_load": ("loaded", "installed"),
    "requirements_download": ("loaded", "installed", "available"),
}
_NAMED_ONLY: tuple[Fallback, ...] = ("none", "load")
RUNNERS_UP = 5


@dataclass(frozen=True)
class RunnerUp:
    """A model that was not chosen, and what it lacked."""

    name: str
    state: State
    lacked: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """The chosen model, what to do with it, and why it and not another."""

    model: str
    state: State
    action: Literal["use", "load", "download"]
    reason: str
    runners_up: tuple[RunnerUp, ...]
    others: int = 0
    """Other candidates that meet everything."""
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The choice for programs."""
        return {
            "model": self.model,
            "state": self.state,
            "action": self.action,
            "reason": self.reason,
            "warnings": list(self.warnings),
            "runners_up": [
                {"model": each.name, "state": each.state, "lacked": list(each.lacked)} for each in self.runners_up
            ],
        }


@dataclass(frozen=True)
class CatalogueCounts:
    """What is known of models that were not handed over as candidates: how many, and what excluded how many."""

    total: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)
    open_ended: bool = False
    """More models meet everything than were handed over."""


class Screened(NamedTuple):
    """A candidate, the requirements it misses, whether the policy keeps it out, and how many faults that makes."""

    candidate: Candidate
    missed: tuple[Need, ...]
    refused: bool
    faults: int


def check(request: Request, candidates: Iterable[Candidate], vocabulary: Vocabulary) -> list[Screened]:
    """Hold candidates in the states that the mode allows against the requirements and the policy."""
    states = _ALLOWED_STATES[request.mode]
    tests = [(need, test_of(need, vocabulary)) for need in request.needs]
    found = []
    for candidate in candidates:
        if candidate.state in states:
            missed = tuple([need for need, test in tests if not test(candidate)])
            refused = candidate.decision is not None and not candidate.decision.allowed
            faults = len(missed) + refused + (candidate.unfit is not None)
            found.append(Screened(candidate, missed, refused, faults))
    return found


def choose(
    request: Request,
    candidates: Iterable[Candidate],
    vocabulary: Vocabulary,
    surroundings: CatalogueCounts = CatalogueCounts(),
) -> Choice:
    """Choose a model for `request`.

    Raises ModelNotFoundError that says which requirement excluded how many and which model came nearest, and
    UsageError when a mode needs a model's name and none is given.
    """
    everyone = list(candidates)
    if request.mode in _NAMED_ONLY:
        return _choose_named(request, everyone, vocabulary)
    checked = check(request, everyone, vocabulary)
    if not checked and not surroundings.total:
        raise _empty(request, bool(everyone))
    return settle(request, checked, vocabulary, surroundings)


def settle(
    request: Request,
    checked: list[Screened],
    vocabulary: Vocabulary,
    surroundings: CatalogueCounts = CatalogueCounts(),
) -> Choice:
    """The choice among candidates that were checked. Raises ModelNotFoundError when none is without fault."""
    eligible = [each.candidate for each in checked if not each.faults]
    if not eligible:
        raise _nobody(request, checked, vocabulary, surroundings)
    key = sorting_key(request)
    first = heapq.nsmallest(RUNNERS_UP + 1, eligible, key=key)
    best = next((each for each in eligible if each.name == request.model), first[0])
    others = [candidate for candidate in first if candidate is not best][:RUNNERS_UP]
    losers = [RunnerUp(each.name, each.state, behind(each, best, request)) for each in others]
    missed = [each for each in checked if each.faults] if len(losers) < RUNNERS_UP else []
    nearest = heapq.nsmallest(RUNNERS_UP - len(losers), missed, key=lambda each: (each.faults, key(each.candidate)))
    losers += [RunnerUp(each.candidate.name, each.candidate.state, _words(each, vocabulary)) for each in nearest]
    return _choice(best, request, tuple(losers), len(eligible) - 1, surroundings.open_ended)


def _choose_named(request: Request, everyone: list[Candidate], vocabulary: Vocabulary) -> Choice:
    if request.model is None:
        raise UsageError(
            f"The fallback mode {request.mode!r} needs the name of a model.",
            hint="Name one, or use the mode requirements, requirements_load or requirements_download.",
        )
    named = [each for each in everyone if each.name == request.model]
    here = [each for each in named if each.state in _ALLOWED_STATES[request.mode]]
    if not here:
        known = [each.name for each in everyone if each.state != "available"]
        hint = did_you_mean(request.model, known)
        if named:
            hint = f"It can be downloaded: pantry pull {request.model}"
        raise ModelNotFoundError(f"The model {request.model!r} is not installed.", hint=hint)
    (checked,) = check(request, [replace(here[0], unfit=None)], vocabulary)  # loading it says exactly
    if checked.faults:
        faults = _words(checked, vocabulary)
        raise ModelNotFoundError(
            f"The model {request.model!r} does not meet the requirements: {'; '.join(faults)}.",
            hint="Drop the requirement, or let another model be chosen with the mode requirements_load.",
        )
    return _choice(here[0], request, (), 0)


def _words(checked: Screened, vocabulary: Vocabulary) -> tuple[str, ...]:
    """All that a candidate lacks."""
    candidate = checked.candidate
    words = [lacks(candidate, need, vocabulary) or "" for need in checked.missed]
    if checked.refused and candidate.decision is not None:
        reasons = [each.text for each in candidate.decision.findings if each.state in ("refuse", "ask")]
        words.append(f"{candidate.decision.verdict} by the policy: {'; '.join(reasons)}")
    if candidate.unfit is not None:
        words.append(candidate.unfit)
    return tuple(words)


def _choice(
    best: Candidate, request: Request, losers: tuple[RunnerUp, ...], others: int, open_ended: bool = False
) -> Choice:
    action: Literal["use", "load", "download"] = "use"
    if not best.remote:
        actions: dict[State, Literal["use", "load", "download"]] = {
            "loaded": "use",
            "installed": "load",
            "available": "download",
        }
        action = actions[best.state]
    met = [_met(best, need) for need in request.needs]
    all_words = f"meets {'the requirement' if len(met) == 1 else f'all {len(met)} requirements'}: " if met else ""
    reason = f"{best.name} is {best.state}{' and ' if met else ''}{all_words}{', '.join(met)}."
    if best.speed is not None and not any(need.kind == "speed" for need in request.needs):
        reason += f" It writes {format_rate(best.speed)} tokens/s ({speed_words(best)})."
    if request.model == best.name:
        reason += " It was asked for by name."
    elif others:
        words = f"{others}{' or more' if open_ended else ''} other model{'s' if others > 1 else ''} would also do"
        reason += f" {words}; it comes first by {_order_words(request)}."
    warnings = best.decision.warnings if best.decision else ()
    return Choice(best.name, best.state, action, reason, losers, others, warnings)


def _order_words(request: Request) -> str:
    return ", ".join(["cost (loaded, installed, available)", "a usable speed", *request.preferences, "general score"])


def _met(candidate: Candidate, need: Need) -> str:
    if need.kind == "capability":
        score, measured = candidate.score(need.name)
        if measured:
            found = candidate.measured[need.name]
            how = f"measured {found.date}" + (f" with {found.engine}" if found.engine else "")
            return f"{need.name} {score:g} ({how})"
        return f"{need.name} {score:g} (declared, not measured)"
    if need.kind == "context":
        return f"context {candidate.context}"
    if need.kind == "speed":
        return f"{format_rate(candidate.speed or 0)} tokens/s ({speed_words(candidate)})"
    if need.kind == "licence":
        answer = candidate.answers.get(parse_use(need.name))
        return f"{need.name} use {'allowed under conditions' if answer and answer.conditions else 'allowed'}"
    return need.label


def _empty(request: Request, has_others: bool) -> ModelNotFoundError:
    hint = "Let an installed model be loaded with the mode requirements_load." if has_others else None
    words = {"requirements": "No model is loaded.", "requirements_load": "No model is installed."}
    return ModelNotFoundError(words.get(request.mode, "There is no model to choose from."), hint=hint)


def _nobody(
    request: Request, checked: list[Screened], vocabulary: Vocabulary, around: CatalogueCounts
) -> ModelNotFoundError:
    total = len(checked) + around.total
    counts = {need.label: around.excluded.get(need.label, 0) for need in request.needs}
    for need in (need for each in checked for need in each.missed):
        counts[need.label] += 1
    refused = around.excluded.get("policy", 0) + sum(each.refused for each in checked)
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    shares = [f"{label} excluded {count}" for label, count in ordered if count]
    if refused:
        shares.append(f"the policy excluded {refused}")
    unfit = around.excluded.get("memory", 0) + sum(each.candidate.unfit is not None for each in checked)
    if unfit:
        shares.append(f"the memory of this machine excluded {unfit}")
    key = sorting_key(request)
    nearest = min(checked, key=lambda each: (each.faults, key(each.candidate)), default=None)
    near = ""
    if nearest is not None:
        candidate = nearest.candidate
        near = f" Nearest: {candidate.name} ({candidate.state}): {'; '.join(_words(nearest, vocabulary))}."
    return ModelNotFoundError(
        f"No model meets all requirements. Of {total} model{'s' if total > 1 else ''}, {', '.join(shares)}.{near}",
        hint="Loosen the requirement that excludes most" + _wider(request.mode),
    )


def _wider(mode: Fallback) -> str:
    if mode == "requirements":
        return ", or let an installed model be loaded with the mode requirements_load."
    if mode == "requirements_load":
        return ", or let one be downloaded with the mode requirements_download."
    return "."
