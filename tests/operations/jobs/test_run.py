"""The runner: how a job ends is written down, whatever ended it; and lost jobs get a state that says so."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.paths import Paths
from pantry.operations.jobs.context import JobContext
from pantry.operations.jobs.kind import KINDS, JobKind, Parameters
from pantry.operations.jobs.manage import cancel_job, get_job, list_jobs, read_log
from pantry.operations.jobs.run import MAX_KILLS, in_foreground, run_queued, settle_lost
from pantry.store.database import Database
from pantry.store.jobs import Jobs


def nap(context: JobContext, parameters: Parameters) -> dict[str, object]:
    context.step("napping", "on the sofa")
    if parameters.get("dream"):
        raise ZeroDivisionError("a nightmare")
    if parameters.get("alarm"):
        raise KeyboardInterrupt
    return {"rested": not context.resuming}


@pytest.fixture
def jobs(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Jobs]:
    """The jobs of a home that knows a kind of job that is over soon and does not resume."""
    kind = JobKind(nap, lambda parameters: "sofa", lambda parameters: "pantry nap", resumes=False)
    monkeypatch.setitem(KINDS._loaded, "nap", kind)
    with Database(paths.database) as database:
        yield Jobs(database, paths.job_logs)


def lose(paths: Paths) -> None:
    """Let every running job seem to belong to a process that is gone."""
    with Database(paths.database) as database:
        database.execute("UPDATE jobs SET process_mark = -1 WHERE process IS NOT NULL")


def test_a_queued_job_is_run_to_its_result(paths: Paths, jobs: Jobs) -> None:
    job = jobs.add("nap", "sofa", {})
    run_queued(paths, job.id)
    done = jobs.get(job.id)
    assert (done.state, done.result, done.progress.step) == ("done", {"rested": True}, "napping")
    assert "napping: on the sofa" in read_log(paths, job.id)[0]
    run_queued(paths, job.id)
    assert jobs.get(job.id).runs == 1


def test_a_job_that_does_not_resume_is_interrupted_by_a_kill_with_the_reason_in_words(paths: Paths, jobs: Jobs) -> None:
    job = jobs.add("nap", "sofa", {})
    jobs.claim(job.id)
    lose(paths)
    ended = get_job(paths, job.id)
    assert ended.error
    assert (ended.state, ended.error.code) == ("interrupted", "interrupted")
    assert ended.error.message == "Its process was killed, and a job of this kind cannot go on where it stopped."
    assert ended.error.hint == "Begin anew with: pantry nap"


def test_a_job_at_which_processes_are_killed_again_and_again_is_given_up(paths: Paths, jobs: Jobs) -> None:
    job = jobs.add("pull", "fox", {"model": "fox"})
    for _ in range(MAX_KILLS - 1):
        assert jobs.claim(job.id)
        lose(paths)
        assert get_job(paths, job.id).state == "queued"
    jobs.claim(job.id)
    lose(paths)
    given_up = get_job(paths, job.id)
    assert given_up.error
    assert (given_up.state, given_up.error.message) == (
        "interrupted", f"{MAX_KILLS} processes were killed while they ran it.",
    )  # fmt: skip


def test_a_job_that_was_being_cancelled_when_its_process_died_is_cancelled(paths: Paths, jobs: Jobs) -> None:
    job = jobs.add("pull", "fox", {"model": "fox"})
    jobs.claim(job.id)
    jobs.cancel(job.id)
    lose(paths)
    assert get_job(paths, job.id).state == "cancelled"


def test_a_lost_job_of_a_kind_that_is_gone_says_so(paths: Paths, jobs: Jobs) -> None:
    job = jobs.add("knit", "scarf", {})
    jobs.claim(job.id)
    lose(paths)
    with Database(paths.database) as database:
        assert [each.id for each in settle_lost(database, paths)] == [job.id]
    ended = jobs.get(job.id)
    assert ended.error
    assert (ended.state, ended.error.code) == ("interrupted", "not_found")


def test_an_error_of_the_work_is_the_jobs_and_still_raised(paths: Paths, jobs: Jobs) -> None:
    with pytest.raises(BadFileError), in_foreground(paths, "nap", {}):
        raise BadFileError("The file is cut short.", hint="Fetch it again.")
    job = list_jobs(paths)[0]
    assert job.error
    assert (job.state, job.error.code, job.error.hint) == ("failed", "bad_file", "Fetch it again.")


def test_a_fault_names_the_log_that_holds_its_traceback(paths: Paths, jobs: Jobs) -> None:
    job = jobs.add("nap", "sofa", {"dream": True})
    with pytest.raises(ZeroDivisionError):
        run_queued(paths, job.id)
    failed = jobs.get(job.id)
    assert failed.error
    assert (failed.state, failed.error.code) == ("failed", "internal_error")
    assert failed.error.message == "A fault in Pantry itself: ZeroDivisionError: a nightmare"
    assert failed.error.hint == f"Its traceback is in {paths.fault_log}."
    assert str(paths.fault_log) in read_log(paths, job.id)[0]
    assert "Traceback (most recent call last)" in paths.fault_log.read_text()


def test_an_unknown_kind_makes_no_job(paths: Paths, jobs: Jobs) -> None:
    with pytest.raises(NotFoundError, match="kind of job 'pul'"), in_foreground(paths, "pul", {}):
        pass
    assert list_jobs(paths) == []


def wait_after(change: Callable[[str], object], paths: Paths) -> str:
    """Wait in a job for what does not come, after `change` was called with its id; how the job ended."""
    id = ""
    with contextlib.suppress(KeyboardInterrupt), in_foreground(paths, "nap", {}) as context:
        id = context.job.id
        change(id)
        threading.Event().wait(20)
        pytest.fail("nothing woke it")
    with Database(paths.database) as database:
        return str(Jobs(database, paths.job_logs).state_of(id))


def test_cancelling_wakes_work_that_waits_and_reports_nothing(paths: Paths, jobs: Jobs) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert wait_after(lambda id: cancel_job(paths, id), paths) == "cancelled"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_job_that_is_forgotten_while_it_runs_stops(paths: Paths, jobs: Jobs) -> None:
    def forget(id: str) -> None:
        with Database(paths.database) as database:
            database.execute("DELETE FROM jobs WHERE id = ?", (id,))

    assert wait_after(forget, paths) == "None"


def test_ctrl_c_cancels_a_command_and_puts_back_a_job_of_the_queue(paths: Paths, jobs: Jobs) -> None:
    with pytest.raises(KeyboardInterrupt), in_foreground(paths, "nap", {}) as context:
        raise KeyboardInterrupt
    assert jobs.get(context.job.id).state == "cancelled"
    queued = jobs.add("nap", "sofa", {"alarm": True})
    run_queued(paths, queued.id)
    assert jobs.get(queued.id).state == "queued"


def test_in_another_thread_a_job_runs_and_no_signal_is_touched(paths: Paths, jobs: Jobs) -> None:
    job = jobs.add("nap", "sofa", {})
    thread = threading.Thread(target=run_queued, args=(paths, job.id))
    thread.start()
    thread.join()
    assert jobs.get(job.id).state == "done"


def test_reporting_costs_next_to_nothing_and_is_written_now_and_then(paths: Paths, jobs: Jobs) -> None:
    with in_foreground(paths, "nap", {}) as context:
        context.step("counting")
        began = time.process_time()
        for number in range(20_000):
            context.progress(number, 20_000)
        assert time.process_time() - began < 1
    assert jobs.get(context.job.id).progress.done == 19_999, "the last of it is written at the end"


def test_a_count_that_cannot_be_written_down_does_not_keep_a_job_from_being_cancelled(paths: Paths, jobs: Jobs) -> None:
    id, deadline = "", time.monotonic() + 20
    with contextlib.suppress(KeyboardInterrupt), in_foreground(paths, "nap", {}) as context:
        id = context.job.id
        cancel_job(paths, id)
        while time.monotonic() < deadline:
            context.progress(time.monotonic_ns(), 10**30)
        pytest.fail("nothing woke it")
    assert jobs.get(id).state == "cancelled"


def test_this_process_runs_a_foreground_job(paths: Paths, jobs: Jobs) -> None:
    with in_foreground(paths, "nap", {}) as context:
        job = get_job(paths, context.job.id)
        assert (job.state, job.process, job.foreground) == ("running", os.getpid(), True)
