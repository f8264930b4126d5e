"""Jobs as rows: their states, who runs them, what is forgotten, and their logs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from pantry.core.errors import ConflictError, NotFoundError, StorageError
from pantry.core.paths import Paths
from pantry.core.processes import process_mark
from pantry.store import job_log
from pantry.store.apps import Apps
from pantry.store.database import Database
from pantry.store.jobs import MAX_TITLE, JobError, JobProgress, Jobs

KEPT = 5


@pytest.fixture(autouse=True)
def _few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pantry.store.jobs.KEPT", KEPT)


@pytest.fixture
def database(paths: Paths) -> Iterator[Database]:
    with Database(paths.database) as database:
        yield database


@pytest.fixture
def jobs(database: Database, paths: Paths) -> Jobs:
    return Jobs(database, paths.job_logs)


def test_a_queued_job_is_claimed_once_and_ends_once(jobs: Jobs) -> None:
    job = jobs.add("pull", "fox", {"model": "fox"})
    assert (job.state, job.process, job.runs, job.ended) == ("queued", None, 0, False)
    assert jobs.claim(job.id)
    assert not jobs.claim(job.id)
    running = jobs.get(job.id)
    assert (running.state, running.process, running.runs) == ("running", os.getpid(), 1)
    assert not running.is_lost
    assert jobs.finish(running, "done", result={"model": "fox"})
    assert not jobs.finish(running, "failed", error=JobError("x", "y"))
    done = jobs.get(job.id)
    assert (done.state, done.result, done.error, done.ended) == ("done", {"model": "fox"}, None, True)
    assert done.to_json()["process"] is None


def test_progress_tells_the_time_left_from_the_rate(jobs: Jobs) -> None:
    job = jobs.add("pull", "fox", {}, foreground=True)
    jobs.note(job.id, JobProgress("downloading", 100, 400, "bytes", 50.0))
    progress = jobs.get(job.id).progress
    assert (progress.step, progress.left) == ("downloading", 6.0)
    assert JobProgress("x", 10, None, "bytes", 5.0).left is None
    assert JobProgress("x", 10, 20, "bytes", None).left is None
    assert JobProgress("x", 30, 20, "bytes", 1.0).left == 0.0


def test_cancelling_ends_a_queued_job_at_once_and_asks_a_running_one(jobs: Jobs) -> None:
    queued, running = jobs.add("pull", "a", {}), jobs.add("pull", "b", {}, foreground=True)
    assert jobs.cancel(queued.id).state == "cancelled"
    assert jobs.cancel(running.id).state == "cancelling"
    assert jobs.cancel(running.id).state == "cancelling"
    with pytest.raises(ConflictError, match=r"ended already \(cancelled\)"):
        jobs.cancel(queued.id)


def test_a_job_whose_process_ended_is_lost_and_can_be_queued_again(jobs: Jobs, database: Database) -> None:
    job = jobs.add("pull", "fox", {}, foreground=True)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mark = process_mark(process.pid)
        database.execute("UPDATE jobs SET process = ?, process_mark = ?", (process.pid, mark))
        assert jobs.lost() == []
        process.communicate(b"\n")
    assert [each.id for each in jobs.lost()] == [job.id]
    assert not jobs.requeue(job), "that row is of another process by now"
    assert jobs.requeue(jobs.get(job.id))
    assert jobs.get(job.id).state == "queued"


def test_a_later_process_with_the_same_number_is_another(jobs: Jobs, database: Database) -> None:
    jobs.add("pull", "fox", {}, foreground=True)
    database.execute("UPDATE jobs SET process_mark = process_mark - 1")
    assert len(jobs.lost()) == 1


def test_ids_are_found_by_their_beginning(jobs: Jobs) -> None:
    job = jobs.add("pull", "fox", {})
    assert jobs.find(job.id[:4]).id == job.id
    for text in (job.id[:3], "", "nothing", job.id + "x"):
        with pytest.raises(NotFoundError, match="There is no job"):
            jobs.find(text)


def test_an_ambiguous_beginning_is_told(jobs: Jobs, database: Database) -> None:
    for number in range(2):
        jobs.add("pull", "fox", {})
        database.execute("UPDATE jobs SET id = ? WHERE id NOT LIKE 'abcd%'", (f"abcd-{number}",))
    with pytest.raises(NotFoundError, match="2 jobs start with 'abcd'"):
        jobs.find("abcd")


def test_the_same_thing_is_found_for_its_owner_only_while_it_is_not_done(jobs: Jobs, database: Database) -> None:
    app = Apps(database).add("Notes").id
    job = jobs.add("pull", "fox", {"model": "fox"}, app=app)
    found = jobs.like("pull", app, {"model": "fox"})
    assert found is not None
    assert found.id == job.id
    assert jobs.like("pull", None, {"model": "fox"}) is None
    jobs.cancel(job.id)
    assert jobs.like("pull", app, {"model": "fox"}) is None


def test_old_ended_jobs_are_forgotten_with_their_logs_and_running_ones_are_not(jobs: Jobs, database: Database) -> None:
    running = jobs.add("pull", "running", {})
    first = jobs.add("pull", "first", {})
    jobs.log(first.id).add("a line")
    jobs.cancel(first.id)
    database.execute("UPDATE jobs SET ended_at = '2020-01-01T00:00:00+00:00' WHERE ended_at IS NOT NULL")
    jobs.add("pull", "last", {})
    assert {job.title for job in jobs.list()} == {"running", "last"}
    assert jobs.log(first.id).read() == ("", 0)
    for _ in range(KEPT + 5):
        jobs.cancel(jobs.add("pull", "many", {}).id)
    jobs.add("pull", "last", {})
    assert len([job for job in jobs.list() if job.ended]) == KEPT
    assert jobs.get(running.id).state == "queued"


def test_the_jobs_of_one_owner_do_not_push_out_those_of_another(jobs: Jobs, database: Database) -> None:
    own = jobs.cancel(jobs.add("pull", "own", {}).id)
    app = Apps(database).add("Notes").id
    for _ in range(KEPT + 2):
        jobs.cancel(jobs.add("pull", "many", {}, app=app).id)
    jobs.add("pull", "last", {}, app=app)
    assert jobs.get(own.id).title == "own"
    assert len(jobs.list(app=app)) == KEPT + 1


def test_the_jobs_of_a_removed_app_go_with_it(jobs: Jobs, database: Database) -> None:
    apps = Apps(database)
    job = jobs.add("pull", "fox", {}, app=apps.add("Notes").id)
    apps.remove(str(job.app))
    assert jobs.state_of(job.id) is None


def test_a_log_is_bounded_private_and_can_be_followed(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    log = jobs.log(jobs.add("pull", "fox", {}).id)
    log.add("first\nsecond \x1b[31mred")
    assert (log.path.stat().st_mode & 0o777, log.path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    text, offset = log.read()
    assert [line.partition(" ")[2] for line in text.splitlines()] == ["first", "second  [31mred"]
    log.add("third")
    assert log.read(offset)[0].endswith("third\n")
    monkeypatch.setattr(job_log, "MAX_LOG", 2000)
    for number in range(200):
        log.add(f"line {number}")
    assert log.path.stat().st_size <= 2100
    text, _ = log.read(1_000_000)
    assert text.startswith(job_log.DROPPED.decode())
    assert text.endswith("line 199\n")
    log.add("x" * 10_000)
    assert len(log.read()[0].splitlines()[-1]) < job_log.MAX_LINE + 40


def test_a_title_is_kept_as_one_line_of_printable_text(jobs: Jobs) -> None:
    job = jobs.add("pull", f"fox\x1b[31m\x9b\u202e\n\udcff{'x' * 1000}", {"ref": "./\udcff.fpk"})
    assert job.title.startswith("fox [31m    xxx")
    assert len(job.title) == MAX_TITLE
    assert job.parameters == {"ref": "./\udcff.fpk"}


def test_what_may_be_secret_in_an_address_is_kept_to_run_the_job_and_not_told(jobs: Jobs) -> None:
    given = {"url": "https://ada:pass@lab.example/x.fpk?token=word#part", "model": "fox"}
    job = jobs.add("pull", "fox", given)
    assert job.parameters == given
    assert job.to_json()["parameters"] == {"url": "https://lab.example/x.fpk", "model": "fox"}


def test_paths_that_are_no_text_are_told_as_text(jobs: Jobs) -> None:
    job = jobs.add("train", "fox", {"choices": {"files": ["./\udcff"]}}, foreground=True)
    jobs.finish(job, "failed", result={"folder": "/\udcff"}, error=JobError("storage_error", "Reading \udcff failed."))
    told = jobs.get(job.id).to_json()
    assert told["parameters"] == {"choices": {"files": ["./?"]}}
    assert (told["result"], told["error"]["message"]) == ({"folder": "/?"}, "Reading ? failed.")


def test_progress_beyond_what_the_database_holds_is_an_error_as_any_other(jobs: Jobs) -> None:
    job = jobs.add("pull", "fox", {}, foreground=True)
    with pytest.raises(StorageError, match="cannot keep a value"):
        jobs.note(job.id, JobProgress("downloading", 0, 2**63, "bytes"))


def test_logs_that_cannot_be_read_or_deleted_are_no_fault_and_stop_no_job(jobs: Jobs) -> None:
    log = jobs.log("forgotten")
    log.path.mkdir(parents=True)
    with pytest.raises(StorageError, match=r"Reading forgotten\.log failed"):
        log.read()
    assert jobs.add("pull", "fox", {}).state == "queued"


def test_a_line_of_a_log_costs_no_more_than_what_is_kept_of_it(jobs: Jobs) -> None:
    line = "x" * 50_000_000
    began = time.process_time()
    jobs.log("long").add(line)
    assert time.process_time() - began < 1
