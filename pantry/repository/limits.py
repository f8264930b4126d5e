"""The bounds a download keeps, each with its unit."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """How patient, how fast and how large. `bandwidth` is in bytes a second, 0 for as fast as it goes."""

    connect_timeout: float = 10.0  # seconds until the connection stands
    read_timeout: float = 30.0  # seconds without a single byte
    header_timeout: float = 30.0  # seconds for the whole head of a response
    minimum_rate: int = 1000  # bytes a second, on average over `slow_window`
    slow_window: float = 30.0  # seconds
    attempts: int = 6  # tries in a row that bring nothing to speak of
    back_off: float = 0.5  # seconds before the second try; doubles each time
    longest_back_off: float = 30.0  # seconds
    redirects: int = 5
    connections: int = 4  # at most, for one large file
    bandwidth: int = 0
    max_length: int = 1 << 40  # bytes of a file whose length nobody told


class Bandwidth:
    """A limit that several threads keep together: `spend` waits until the bytes fit in."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._free_at = time.monotonic()
        self._lock = threading.Lock()

    def spend(self, count: int, stop: threading.Event) -> None:
        """Account for `count` bytes and wait for as long as they take at the rate; ends early when stopped."""
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_at = max(self._free_at, now) + count / self._rate
            pause = self._free_at - now
        stop.wait(pause)


class Pace:
    """Watches that data keep coming: time counts only while we wait for the server, not while we write to disk."""

    def __init__(self, limits: Limits) -> None:
        rate = min(limits.minimum_rate, limits.bandwidth // 8) if limits.bandwidth else limits.minimum_rate
        self._wanted = rate * limits.slow_window
        self._window = limits.slow_window
        self._waited = 0.0
        self._came = 0

    def too_slow(self, waited: float, came: int) -> bool:
        """Count one read; True when a whole window of waiting brought less than the minimum rate."""
        self._waited += waited
        self._came += came
        if self._waited < self._window:
            return False
        slow = self._came < self._wanted
        self._waited, self._came = 0.0, 0
        return slow
