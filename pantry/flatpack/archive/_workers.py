"""How many threads work on frames at once: all cores, unless that would take too much memory."""

from __future__ import annotations

import os

_BUDGET = 32 << 20
"""Content of frames in memory at once, in bytes; compressed bytes may take as much again."""


def workers_for(frame_size: int) -> int:
    """Threads for frames of at most `frame_size` bytes of content; at least one."""
    return max(1, min(os.cpu_count() or 1, _BUDGET // max(frame_size, 1)))
