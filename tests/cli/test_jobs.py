"""`pantry jobs`, and the pulls it shows, as a user types them: real processes, a real server."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.cli._app import run
from pantry.core.paths import Paths
from pantry.operations.jobs.manage import list_jobs
from pantry.store.database import Database
from pantry.store.jobs import Job, JobError, JobProgress, Jobs
from tests.operations.jobs.processes import wait_for_progress
from tests.repository.servers import FileServer
from tests.repository.slow import serving_slowly
from tests.service.running import wait_until

PANTRY = [sys.executable, "-W", "error", "-m", "pantry"]


@pytest.fixture
def slow_server(paths: Paths, tmp_path: Path) -> Iterator[FileServer]:
    with serving_slowly(paths, tmp_path) as server:
        yield server


@pytest.fixture
def pulling(slow_server: FileServer) -> Iterator[subprocess.Popen[str]]:
    """`pantry pull big` in another terminal."""
    words = [*PANTRY, "pull", "big"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def the_job(paths: Paths) -> Job:
    """The pull, once some of it has come."""
    wait_until(lambda: list_jobs(paths), 30)
    return wait_for_progress(paths, list_jobs(paths)[0].id, "downloading")


def test_a_pull_is_shown_and_cancelled_from_another_terminal(
    paths: Paths, pulling: subprocess.Popen[str], capsys: pytest.CaptureFixture[str]
) -> None:
    job = the_job(paths)
    assert job.process == pulling.pid
    assert run(["jobs"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["ID", "KIND", "WHAT", "STATE", "STEP", "PROGRESS", "RATE", "LEFT"]
    assert row.split()[:5] == [job.id[:8], "pull", "big", "running", "downloading"]
    assert " of 3.0 MB (" in row
    assert run(["jobs", "show", job.id[:6], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["process"] == pulling.pid
    assert run(["jobs", "cancel", job.id[:8]]) == 0
    assert capsys.readouterr().out == "Being cancelled: pull big.\n"
    _, said = pulling.communicate(timeout=20)
    assert pulling.returncode == 130
    assert "Traceback" not in said
    assert list_jobs(paths)[0].state == "cancelled"
    assert list(paths.partial.glob("*.part")), "what has come is kept"
    assert run(["jobs", "cancel", job.id]) == 6


def test_ctrl_c_cancels(paths: Paths, pulling: subprocess.Popen[str]) -> None:
    the_job(paths)
    pulling.send_signal(signal.SIGINT)
    assert pulling.wait(20) == 130
    assert list_jobs(paths)[0].state == "cancelled"


def test_a_killed_pull_is_interrupted_and_says_how_to_go_on(
    paths: Paths, pulling: subprocess.Popen[str], slow_server: FileServer, capsys: pytest.CaptureFixture[str]
) -> None:
    job = the_job(paths)
    pulling.kill()
    pulling.communicate()
    assert run(["jobs"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1].split()[3] == "interrupted"
    assert told.err == f"{job.id[:8]} was interrupted. Go on with: pantry pull big\n"
    slow_server.requests.clear()
    slow_server.faults.pause = 0
    assert run(["pull", "big"]) == 0
    assert [each.state for each in list_jobs(paths)] == ["interrupted", "done"]
    ranges = [found.removeprefix("bytes=") for path, found in slow_server.requests if "targets/" in path and found]
    (file,) = (slow_server.root / "targets").rglob("*.fpk")
    bounds = [tuple(map(int, each.split("-"))) for each in ranges]
    assert sum(last - first + 1 for first, last in bounds) < file.stat().st_size, "what had come is not fetched again"


def test_a_log_is_followed_to_the_end_of_its_job(paths: Paths, pulling: subprocess.Popen[str]) -> None:
    job = the_job(paths)
    words = [*PANTRY, "jobs", "log", job.id[:8], "--follow"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        seen = [following.stdout.readline()]
        assert "resolving: " in seen[0] or "metadata verified: " in seen[0]
        with Database(paths.database) as database:
            Jobs(database, paths.job_logs).log(job.id).add("a last line")
        pulling.send_signal(signal.SIGINT)
        rest, _ = following.communicate(timeout=20)
    assert following.returncode == 0
    assert rest.splitlines()[-1].endswith(" a last line")


def test_rows_say_progress_rate_time_left_and_the_error(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    with Database(paths.database) as database:
        jobs = Jobs(database, paths.job_logs)
        training = jobs.add("train", "tales", {"folder": "/tales"}, foreground=True)
        jobs.note(training.id, JobProgress("training", 1_000_000, 4_000_000, "tokens", 10_000.0))
        failed = jobs.add("pull", "fox", {"ref": "fox"})
        jobs.finish(failed, "failed", error=JobError("not_found", "No fox.", "Look elsewhere."))
    assert run(["jobs"]) == 0
    rows = [line.split("   ") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [cell.strip() for cell in rows[0] if cell.strip()] == [
        training.id[:8], "train", "tales", "running", "training", "1M tokens of 4M tokens (25%)",
        "10k tokens/s", "5 min",
    ]  # fmt: skip
    assert run(["jobs", "show", failed.id]) == 0
    shown = dict(line.split("   ", 1) for line in capsys.readouterr().out.splitlines())
    facts = {name.strip(): value.strip() for name, value in shown.items()}
    assert (facts["error"], facts["code"], facts["hint"]) == ("No fox.", "not_found", "Look elsewhere.")
    assert run(["jobs", "show", "nothing"]) == 3
    assert run(["jobs", "--json"]) == 0
    told = capsys.readouterr()
    assert [each["progress"]["left"] for each in json.loads(told.out)] == [300.0, None]


def test_old_ended_jobs_are_listed_on_demand(paths: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    with Database(paths.database) as database:
        jobs = Jobs(database, paths.job_logs)
        for number in range(12):
            jobs.cancel(jobs.add("pull", f"m{number}", {"ref": "m"}).id)
    for words, count in ((["jobs"], 10), (["jobs", "--all"], 12)):
        assert run(words) == 0
        assert len(capsys.readouterr().out.splitlines()) == count + 1
