"""What every kind of job keeps to: steps and progress, an end in the middle, a kill, an error in words, a log."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pantry.core.paths import Paths
from pantry.operations.flatpacks import start_flatpack
from pantry.operations.jobs.kind import KINDS
from pantry.operations.jobs.manage import cancel_job, get_job, read_log
from pantry.store.job_log import MAX_LOG
from tests.operations.jobs.processes import queue, start, wait_for_progress
from tests.repository.slow import serving_slowly
from tests.service.running import wait_until
from tests.workshop.conftest import TINY, write_text

SOON = 4.0  # seconds; two on a machine with nothing else to do


@dataclass
class Scenario:
    """A job that goes on until `hurry` is called, and one that fails with an error of this code.

    `works_in` is the step in which it counts; `went_on` tells after a kill whether the second run took up the first's.
    """

    long: dict[str, object]
    works_in: str
    hurry: Callable[[], None]
    broken: dict[str, object]
    code: str
    went_on: Callable[[str], bool]


@pytest.fixture
def pull(paths: Paths, tmp_path: Path) -> Iterator[Scenario]:
    with serving_slowly(paths, tmp_path) as server:

        def went_on(log: str) -> bool:
            ranges = [found for path, found in server.requests if "targets/" in path and found]
            return any(not found.startswith("bytes=0-") for found in ranges)

        def hurry() -> None:
            server.faults.pause = 0

        yield Scenario({"model": "big"}, "downloading", hurry, {"model": "nowhere"}, "not_found", went_on)


@pytest.fixture
def train(tmp_path: Path) -> Scenario:
    pytest.importorskip("torch")
    folder = tmp_path / "tales"
    start_flatpack(folder, "recipe")
    write_text(folder)
    settings = "".join(f"{name} = {value}\n" for name, value in TINY.items())
    file = folder / "flatpack.toml"
    with file.open("a") as recipe:
        recipe.write(f"\n[recipe.settings]\n{settings}tokens = 640000000\nonnx = false\nsave_minutes = 0.0001\n")

    def hurry() -> None:
        file.write_text(file.read_text().replace("tokens = 640000000", "tokens = 128"))

    return Scenario(
        {"folder": str(folder), "choices": {"threads": 1}, "install": False},
        "training",
        hurry,
        {"folder": str(tmp_path / "nowhere")},
        "not_found",
        lambda log: "resumed: at step" in log,
    )


@pytest.fixture(params=["pull", pytest.param("train", marks=pytest.mark.slow)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def scenario(kind: str, request: pytest.FixtureRequest) -> Scenario:
    found = request.getfixturevalue(kind)
    assert isinstance(found, Scenario)
    return found


def test_every_kind_has_a_scenario() -> None:
    assert KINDS.names() == ["pull", "train"]


def test_it_tells_its_steps_and_progress_and_is_cancelled_soon(paths: Paths, kind: str, scenario: Scenario) -> None:
    job = queue(paths, kind, scenario.long)
    with start(paths, job) as process:
        running = wait_for_progress(paths, job.id, scenario.works_in)
        assert (running.state, running.process) == ("running", process.pid)
        progress = running.progress
        assert progress.unit
        assert progress.total is not None
        assert progress.done < progress.total
        later = wait_for_progress(paths, job.id, scenario.works_in, progress.done).progress
        assert later.rate
        assert later.left
        asked = time.monotonic()
        cancel_job(paths, job.id[:8])
        wait_until(lambda: get_job(paths, job.id).ended, 20)
        assert time.monotonic() - asked < SOON
        assert process.wait(20) == 0
    ended = get_job(paths, job.id)
    assert (ended.state, ended.result, ended.error) == ("cancelled", None, None)
    assert 0 < len(read_log(paths, job.id)[0]) < MAX_LOG


def test_after_a_kill_it_goes_on_where_its_kind_can(paths: Paths, kind: str, scenario: Scenario) -> None:
    job = queue(paths, kind, scenario.long)
    with start(paths, job) as process:
        first = wait_for_progress(paths, job.id, scenario.works_in)
        wait_for_progress(paths, job.id, scenario.works_in, first.progress.done)
        process.send_signal(signal.SIGKILL)
    settled = get_job(paths, job.id)
    if not KINDS.get(kind).resumes:
        assert settled.state == "interrupted"
        assert settled.error
        assert settled.error.hint
        return
    assert settled.state == "queued"
    scenario.hurry()
    with start(paths, job) as process:
        assert process.wait(120) == 0
    done = get_job(paths, job.id)
    assert (done.state, done.error, done.runs) == ("done", None, 2)
    assert done.result
    assert scenario.went_on(read_log(paths, job.id)[0])


def test_the_end_of_the_service_is_no_end_of_the_job(paths: Paths, kind: str, scenario: Scenario) -> None:
    job = queue(paths, kind, scenario.long)
    with start(paths, job) as process:
        wait_for_progress(paths, job.id, scenario.works_in)
        process.terminate()
        assert process.wait(20) == 0
    assert get_job(paths, job.id).state == "queued"


def test_an_error_becomes_code_message_and_hint(paths: Paths, kind: str, scenario: Scenario) -> None:
    job = queue(paths, kind, scenario.broken)
    with start(paths, job) as process:
        assert process.wait(60) == 0
    failed = get_job(paths, job.id)
    assert failed.state == "failed"
    assert failed.error
    assert failed.error.code == scenario.code
    assert failed.error.message
    assert failed.error.hint
    assert failed.error.message in read_log(paths, job.id)[0]
