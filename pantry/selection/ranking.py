"""The order among candidates that meet everything, and in what one falls behind another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pantry.catalogue.tags import YearTag
from pantry.core.units import format_bytes, format_rate
from pantry.selection.candidate import STATES, Candidate
from pantry.selection.request import Request

READABLE = 5.0  # tokens per second, about the pace of reading
BEARABLE = 1.0
"""Tokens per second below which nobody waits for an answer."""


def sorting_key(request: Request) -> Callable[[Candidate], tuple[Any, ...]]:
    """Cheapest state first, then a usable speed, the preferences, and tie breaks that never depend on the order given.

    With preferences only what is slower than BEARABLE comes last; without any, what is slower than READABLE, too.
    """
    least = BEARABLE if request.preferences else READABLE

    def key(candidate: Candidate) -> tuple[Any, ...]:
        wanted = tuple(_rank(candidate, preference) for preference in request.preferences)
        general = _rank(candidate, "general")
        newest = tuple(-int(part) for part in candidate.released.split("-") if part.isdigit())
        return (
            STATES.index(candidate.state), _pace(candidate, least), wanted, general, not candidate.shortlist,
            *_padded(newest), candidate.memory if candidate.memory is not None else float("inf"), candidate.name,
        )  # fmt: skip

    return key


def _pace(candidate: Candidate, least: float) -> int:
    """0 for a usable or unknown speed, 1 for a slow one, 2 for one that nobody waits for."""
    if candidate.speed is None or candidate.remote or candidate.speed >= least:
        return 0
    return 1 if candidate.speed >= BEARABLE else 2


def speed_words(candidate: Candidate) -> str:
    """How the speed is known: measured (when, with what) or estimated."""
    if not candidate.speed_measured:
        return "estimated"
    return f"measured {candidate.speed_source}" if candidate.speed_source else "measured"


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
    least = BEARABLE if request.preferences else READABLE
    if _pace(candidate, least) > _pace(best, least):
        return (f"slower than {least:g} tokens/s: {candidate.speed:.2g} ({speed_words(candidate)})",)
    for preference in request.preferences:
        mine, its = _rank(candidate, preference), _rank(best, preference)
        if mine != its:
            return (f"behind in {preference}{_figures(candidate, best, preference)}",)
    if _rank(candidate, "general") != _rank(best, "general"):
        return (f"behind in general score{_figures(candidate, best, 'general')}",)
    return ("equal; decided by the fixed order",)


def _figures(candidate: Candidate, best: Candidate, preference: str) -> str:
    if preference == "speed" and candidate.speed is not None and best.speed is not None:
        figures = f": {format_rate(candidate.speed)} against {format_rate(best.speed)} tokens/s"
        return f"{figures} ({speed_words(best)})" if candidate.speed_measured != best.speed_measured else figures
    if preference == "small" and candidate.memory is not None and best.memory is not None:
        return f": {format_bytes(candidate.memory)} against {format_bytes(best.memory)}"
    if preference == "context" and candidate.context and best.context:
        return f": {candidate.context} against {best.context} tokens"
    (mine, measured), (its, its_measured) = candidate.score(preference), best.score(preference)
    if mine is not None and its is not None:
        words = {True: "measured", False: "declared"}
        return f": {mine:g} ({words[measured]}) against {its:g} ({words[its_measured]})"
    return ""
