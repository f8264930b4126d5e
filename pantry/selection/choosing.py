"""The choice itself: who is eligible, who comes first, and the words that explain it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pantry.catalogue.rights import parse_use
from pantry.core.errors import ModelNotFoundError, UsageError, did_you_mean
from pantry.selection.candidate import Candidate, State, lacks
from pantry.selection.ranking import behind, sorting_key
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
class Surroundings:
    """What is known of models that were not handed over as candidates: how many, and what excluded how many."""

    total: int = 0
    excluded: Mapping[str, int] = field(default_factory=dict)
    open_ended: bool = False
    """More models meet everything than were handed over."""


def choose(
    request: Request,
    candidates: Iterable[Candidate],
    vocabulary: Vocabulary,
    surroundings: Surroundings = Surroundings(),
) -> Choice:
    """Choose a model for `request`.

    Raises ModelNotFoundError that says which requirement excluded how many and which model came nearest, and
    UsageError when a mode needs a model's name and none is given.
    """
    everyone = list(candidates)
    if request.mode in _NAMED_ONLY:
        return _choose_named(request, everyone, vocabulary)
    states = _ALLOWED_STATES[request.mode]
    checked = [
        (candidate, _faults(candidate, request.needs, vocabulary))
        for candidate in everyone
        if candidate.state in states
    ]
    eligible = [candidate for candidate, faults in checked if not faults]
    if not eligible:
        raise _nobody(request, everyone, checked, vocabulary, surroundings)
    key = sorting_key(request)
    eligible.sort(key=key)
    best = next((each for each in eligible if each.name == request.model), eligible[0])
    others = [candidate for candidate in eligible if candidate is not best]
    losers = [RunnerUp(each.name, each.state, behind(each, best, request)) for each in others[:RUNNERS_UP]]
    if len(losers) < RUNNERS_UP:
        missed = sorted(((c, f) for c, f in checked if f), key=lambda pair: (len(pair[1]), key(pair[0])))
        losers += [RunnerUp(c.name, c.state, tuple(f)) for c, f in missed[: RUNNERS_UP - len(losers)]]
    return _choice(best, request, tuple(losers), len(others), surroundings.open_ended)


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
    faults = _faults(here[0], request.needs, vocabulary)
    if faults:
        raise ModelNotFoundError(
            f"The model {request.model!r} does not meet the requirements: {'; '.join(faults)}.",
            hint="Drop the requirement, or let another model be chosen with the mode requirements_load.",
        )
    return _choice(here[0], request, (), 0)


def _faults(candidate: Candidate, needs: Sequence[Need], vocabulary: Vocabulary) -> list[str]:
    faults = [text for need in needs if (text := lacks(candidate, need, vocabulary)) is not None]
    if candidate.decision is not None and not candidate.decision.allowed:
        reasons = [each.text for each in candidate.decision.findings if each.state in ("refuse", "ask")]
        faults.append(f"{candidate.decision.verdict} by the policy: {'; '.join(reasons)}")
    return faults


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
    if request.model == best.name:
        reason += " It was asked for by name."
    elif others:
        words = f"{others}{' or more' if open_ended else ''} other model{'s' if others > 1 else ''} would also do"
        reason += f" {words}; it comes first by {_order_words(request)}."
    warnings = best.decision.warnings if best.decision else ()
    return Choice(best.name, best.state, action, reason, losers, warnings)


def _order_words(request: Request) -> str:
    return ", ".join(["cost (loaded, installed, available)", *request.preferences, "general score"])


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
        return f"{candidate.speed:.3g} tokens/s ({'measured' if candidate.speed_measured else 'estimated'})"
    if need.kind == "licence":
        answer = candidate.answers.get(parse_use(need.name))
        return f"{need.name} use {'allowed under conditions' if answer and answer.conditions else 'allowed'}"
    return need.label


def _nobody(
    request: Request,
    everyone: list[Candidate],
    checked: list[tuple[Candidate, list[str]]],
    vocabulary: Vocabulary,
    around: Surroundings,
) -> ModelNotFoundError:
    total = len(checked) + around.total
    if not total:
        waiting = len(everyone)
        hint = "Let an installed model be loaded with the mode requirements_load." if waiting else None
        words = {"requirements": "No model is loaded.", "requirements_load": "No model is installed."}
        return ModelNotFoundError(words.get(request.mode, "There is no model to choose from."), hint=hint)
    counts = {need.label: around.excluded.get(need.label, 0) for need in request.needs}
    refused = around.excluded.get("policy", 0)
    for candidate, _ in checked:
        refused += candidate.decision is not None and not candidate.decision.allowed
        for need in request.needs:
            counts[need.label] += lacks(candidate, need, vocabulary) is not None
    shares = [
        f"{label} excluded {count}" for label, count in sorted(counts.items(), key=lambda pair: -pair[1]) if count
    ]
    if refused:
        shares.append(f"the policy excluded {refused}")
    nearest = min(checked, key=lambda pair: (len(pair[1]), sorting_key(request)(pair[0])), default=None)
    near = f" Nearest: {nearest[0].name} ({nearest[0].state}): {'; '.join(nearest[1])}." if nearest else ""
    plural = "s" if total > 1 else ""
    return ModelNotFoundError(
        f"No model meets all requirements. Of {total} model{plural}, {', '.join(shares)}.{near}",
        hint="Loosen the requirement that excludes most" + _wider(request.mode),
    )


def _wider(mode: Fallback) -> str:
    if mode == "requirements":
        return ", or let an installed model be loaded with the mode requirements_load."
    if mode == "requirements_load":
        return ", or let one be downloaded with the mode requirements_download."
    return "."
