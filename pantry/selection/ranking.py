"""The order among candidates that meet everything, and in what one falls behind another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pantry.catalogue.tags import YearTag
from pantry.core.units import format_bytes
from pantry.selection.candidate import STATES, Candidate
from pantry.selection.request import Request


def sorting_key(request: Request) -> Callable[[Candidate], tuple[Any, ...]]:
    """Cheapest state first, then the preferences, then fixed tie breaks that never depend on the order given."""

    def key(candidate: Candidate) -> tuple[Any, ...]:
        wanted = tuple(_rank(candidate, preference) for preference in request.preferences)
        general = _rank(candidate, "general")
        newest = tuple(-int(part) for part in candidate.released.split("-") if part.isdigit())
        return (
            STATES.index(candidate.state), wanted, general, not candidate.shortlist, *_padded(newest),
            candidate.memory if candidate.memory is not None else float("inf"), candidate.name,
        )  # fmt: skip

    return key


def _padded(date: tuple[int, ...]) -> tuple[int, int, int]:
    year, month, day = (*date, 0, 0, 0)[:3]
    return year, month, day


def _rank(candidate: Candidate, preference: str) -> tuple[float, ...]:
    """Smaller is better. For capabilities a measured score comes before any declared one."""
    if preference == "speed":
        return (0.0, -candidate.speed) if candidate.speed is not None else (1.0, float(candidate.parameters or 2**62))
    if preference == "small":
        return (float(candidate.memory) if candidate.memory is not None else float("inf"),)
    if preference == "newest":
        return tuple(
            float(each) for each in _padded(tuple(-int(p) for p in candidate.released.split("-") if p.isdigit()))
        )
    if preference == "context":
        return (-float(candidate.context or 0),)
    if preference == "local":
        return (float(candidate.remote),)
    if preference == "quality":
        years = [year for tag in candidate.tags if (year := YearTag.parse(tag)) is not None]
        best = max(years, key=lambda year: (year.level, year.year), default=None)
        general = _rank(candidate, "general")
        return (*general, *((-best.level, -best.year) if best else (1, 0)), -float(candidate.parameters or 0))
    if preference.startswith("family:"):
        return (float(candidate.family != preference.removeprefix("family:")),)
    score, measured = candidate.score(preference)
    return (2.0, 0.0) if score is None else (0.0 if measured else 1.0, -score)


def behind(candidate: Candidate, best: Candidate, request: Request) -> tuple[str, ...]:
    """Why a candidate that meets everything was not chosen: the first thing in which it falls behind."""
    if request.model == best.name:
        return (f"{best.name} was asked for by name",)
    if candidate.state != best.state:
        return (f"only {candidate.state}, not {best.state}",)
    for preference in request.preferences:
        mine, its = _rank(candidate, preference), _rank(best, preference)
        if mine != its:
            return (f"behind in {preference}{_figures(candidate, best, preference)}",)
    if _rank(candidate, "general") != _rank(best, "general"):
        return (f"behind in general score{_figures(candidate, best, 'general')}",)
    return ("equal; decided by the fixed order",)


def _figures(candidate: Candidate, best: Candidate, preference: str) -> str:
    if preference == "speed" and candidate.speed is not None and best.speed is not None:
        return f": {candidate.speed:.3g} against {best.speed:.3g} tokens/s"
    if preference == "small" and candidate.memory is not None and best.memory is not None:
        return f": {format_bytes(candidate.memory)} against {format_bytes(best.memory)}"
    if preference == "context" and candidate.context and best.context:
        return f": {candidate.context} against {best.context} tokens"
    (mine, measured), (its, its_measured) = candidate.score(preference), best.score(preference)
    if mine is not None and its is not None:
        words = {True: "measured", False: "declared"}
        return f": {mine:g} ({words[measured]}) against {its:g} ({words[its_measured]})"
    return ""
