"""What apps used and when they last called: in memory first, written together every few seconds."""

from __future__ import annotations

from collections import Counter

from pantry.store.apps import Apps
from pantry.store.database import Database, now

FLUSH_EVERY = 5.0  # seconds between two writes


class UsageCounter:
    """What apps used since the last write. A crash forgets at most FLUSH_EVERY seconds of it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: Counter[str] = Counter()
        self._seen: dict[str, str] = {}

    def add(self, app: str | None, tokens: int) -> None:
        """Count tokens of an app; those of the owner (None) are not counted."""
        if app is not None and tokens:
            self._waiting[app] += tokens

    def saw(self, app: str | None) -> None:
        """Note that an app called."""
        if app is not None:
            self._seen[app] = now()

    def waiting(self, app: str | None) -> int:
        """Tokens of an app that are not written yet."""
        return self._waiting[app] if app is not None and app in self._waiting else 0

    def flush(self) -> None:
        """Write what was counted."""
        counted, self._waiting = self._waiting, Counter()
        seen, self._seen = self._seen, {}
        for app, when in seen.items():
            Apps(self._database).saw(app, when)
        for app, tokens in counted.items():
            Apps(self._database).count_tokens(app, tokens)
