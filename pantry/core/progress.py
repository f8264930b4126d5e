"""Tells a caller how far a long piece of work is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class Meter:
    """Adds up what is done and reports it, where somebody wants to hear."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def add(self, count: int) -> None:
        """That many bytes more are done."""
        self._done += count
        if self._progress:
            self._progress(self._done, self._total)
