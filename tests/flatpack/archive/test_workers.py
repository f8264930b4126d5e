from __future__ import annotations

import pytest

from pantry.flatpack.archive._workers import workers_for


@pytest.mark.parametrize(
    ("cores", "frame_size", "workers"),
    [(2, 4 << 20, 2), (16, 4 << 20, 8), (128, 4 << 20, 8), (16, 64 << 20, 1), (None, 4 << 20, 1), (8, 0, 8)],
)
def test_threads_are_bounded_by_cores_and_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, frame_size: int, workers: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert workers_for(frame_size) == workers
