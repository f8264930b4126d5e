"""Who fetches which chunk: what the connections of one download share."""

from __future__ import annotations

import threading

from pantry.repository._partial import Partial


class Plan:
    """Which chunks are free, taken or done."""

    def __init__(self, partial: Partial) -> None:
        self._partial = partial
        self._changed = threading.Condition()
        self._taken: set[int] = set()
        self.stopped = False

    def claim(self) -> tuple[int, int] | None:
        """A chunk to begin with, and the chunk before which to stop: the middle of the longest free run."""
        with self._changed:
            first, end = self._longest_run()
            if first == end:
                return None
            begins_after_work = first > 0 and first - 1 in self._taken
            start = (first + end) // 2 if begins_after_work else first
            self._taken.add(start)
            return start, end

    def claim_next(self, chunk: int) -> bool:
        """Take exactly this chunk, if it is free."""
        with self._changed:
            if chunk >= len(self._partial.have) or not self._is_free(chunk):
                return False
            self._taken.add(chunk)
            return True

    def release(self, chunk: int) -> None:
        """The chunk is done or given up."""
        with self._changed:
            self._taken.discard(chunk)
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self.stopped = True
            self._changed.notify_all()

    def wait_for(self, chunk: int) -> bool:
        """Wait until a chunk is complete; False when the download was stopped."""
        with self._changed:
            self._changed.wait_for(lambda: self.stopped or self._is_done(chunk))
            return not self.stopped

    def _is_done(self, chunk: int) -> bool:
        return self._partial.have[chunk] == self._partial.size_of(chunk) and chunk not in self._taken

    def _is_free(self, chunk: int) -> bool:
        return chunk not in self._taken and not self._is_done(chunk)

    def _longest_run(self) -> tuple[int, int]:
        best, start = (0, 0), None
        for chunk in range(len(self._partial.have) + 1):
            free = chunk < len(self._partial.have) and self._is_free(chunk)
            if free and start is None:
                start = chunk
            elif not free and start is not None:
                if chunk - start > best[1] - best[0]:
                    best = (start, chunk)
                start = None
        return best
