"""Jobs in a real service: pulls asked for over every way, seen and cancelled by whom they belong to, and resumed."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pantry.access.requests import Limits, decide_request, list_requests
from pantry.client import Client
from pantry.core.errors import NotFoundError
from pantry.core.paths import Paths
from pantry.operations.jobs.manage import get_job, list_jobs
from pantry.store.database import Database
from pantry.store.jobs import Jobs
from tests.repository.servers import FileServer
from tests.repository.slow import serving_slowly
from tests.service.calling import Line, make_app
from tests.service.running import Service, starting, wait_until


@pytest.fixture
def slow_server(paths: Paths, tmp_path: Path) -> Iterator[FileServer]:
    """A repository with the model `big` whose files come slowly, known to this home."""
    with serving_slowly(paths, tmp_path) as server:
        yield server


@pytest.fixture
def service(home: Path, slow_server: FileServer) -> Iterator[Service]:
    with starting(Service(home)) as service:
        yield service


def wait_for_bytes(line: Line, id: str, **caller: str) -> dict[str, Any]:
    """Wait until some of a pull has come; the job."""

    def has_come() -> bool:
        job = line.value("get_job", {"job": id}, **caller)
        assert not job["ended"], job
        return bool(job["progress"]["done"])

    wait_until(has_come, 30)
    return line.value("get_job", {"job": id}, **caller)


def test_the_owners_pull_answers_at_once_and_asking_again_is_the_same_job(service: Service) -> None:
    with Line(service) as line:
        told = line.value("download_model", {"model": "big"})
        assert (told["state"], told["job"]["kind"], told["job"]["title"]) == ("downloading", "pull", "big")
        assert "request" not in told
        job = wait_for_bytes(line, told["job"]["id"])
        assert job["progress"]["step"] == "downloading"
        assert job["progress"]["unit"] == "bytes"
        assert job["progress"]["total"] > 2_000_000
        assert line.value("download_model", {"model": "big"})["job"]["id"] == job["id"]


def test_a_killed_service_goes_on_with_a_pull_at_its_next_start(
    home: Path, paths: Paths, slow_server: FileServer
) -> None:
    service = Service(home).start()
    with Line(service) as line:
        id = line.value("download_model", {"model": "big"})["job"]["id"]
        job = wait_for_bytes(line, id)
        runner = job["process"]
    assert service.process
    service.process.send_signal(signal.SIGKILL)
    service.process.communicate()
    wait_until(lambda: not Path(f"/proc/{runner}").exists() or get_job(paths, id).state == "queued", 10)
    assert get_job(paths, id).state == "queued"
    slow_server.requests.clear()
    slow_server.faults.pause = 0
    with starting(Service(home)) as again, Line(again) as line:
        done = line.value("wait_job", {"job": id})
        assert (done["state"], done["result"]) == ("done", {"model": "big"})
        assert "big" in [each["name"] for each in line.value("list_models")["models"]]
    ranges = [found for path, found in slow_server.requests if "targets/" in path]
    assert ranges
    assert all(found and not found.startswith("bytes=0-") for found in ranges), "it began anew"


def test_a_service_that_stops_lets_its_pulls_go_on_later(home: Path, paths: Paths, slow_server: FileServer) -> None:
    with starting(Service(home)) as service, Line(service) as line:
        id = line.value("download_model", {"model": "big"})["job"]["id"]
        wait_for_bytes(line, id)
    assert get_job(paths, id).state == "queued"


def test_an_approved_request_has_a_job_and_its_progress(service: Service, slow_server: FileServer) -> None:
    key = make_app(service.paths, "Notes", "request-download")
    with Line(service) as line:
        asked = line.value("download_model", {"model": "big"}, key=key)
        assert (asked["state"], asked["request"]["job"]) == ("requested", None)
        assert "job" not in asked
        status, approved = service.ask("POST", f"/admin/requests/{asked['request']['id']}/approve", {})
        assert status == 200
        job = wait_for_bytes(line, approved["job"], key=key)
        assert (job["request"], job["app"]) == (asked["request"]["id"], asked["request"]["app"])
        assert "process" not in job
        told = line.value("get_request", {"request": job["request"]}, key=key)
        assert told["job"] == job["id"]
        assert 0 < told["progress"]["done"] < told["progress"]["total"]
        slow_server.faults.pause = 0
        done = line.value("wait_request", {"request": job["request"]}, key=key)
        assert (done["state"], done["outcome"], done["progress"]) == ("done", "downloaded", None)


def test_an_approval_from_another_process_becomes_a_job_too(service: Service, slow_server: FileServer) -> None:
    slow_server.faults.pause = 0
    key = make_app(service.paths, "Notes", "request-download")
    with Line(service) as line:
        line.value("download_model", {"model": "big"}, key=key)
        request, _ = list_requests(service.paths)[0]
        decide_request(service.paths, request.id, Limits())
        done = line.value("wait_request", {"request": request.id})
        assert (done["state"], bool(done["job"])) == ("done", True)


def test_apps_do_not_see_each_others_jobs_and_cancel_only_their_own(service: Service) -> None:
    first, second = (make_app(service.paths, name, "download") for name in ("First", "Second"))
    with Line(service) as line, Line(service) as other:
        mine = line.value("download_model", {"model": "big"}, key=first)
        id = mine["job"]["id"]
        assert mine["request"]["job"] == id
        assert [job["id"] for job in line.value("list_jobs", key=first)["jobs"]] == [id]
        assert other.value("list_jobs", key=second)["jobs"] == []
        for function in ("get_job", "wait_job", "cancel_job"):
            assert other.ask(function, {"job": id}, key=second)["code"] == "not_found"
        status, told = service.ask("POST", "/call", {"function": "get_job", "parameters": {"job": id}}, key=second)
        assert (status, told["code"]) == (404, "not_found")
        assert service.ask("GET", "/admin/jobs", key=second)[0] == 403
        wait_for_bytes(line, id, key=first)
        assert line.value("cancel_job", {"job": id}, key=first)["state"] == "cancelling"
        assert line.value("wait_job", {"job": id}, key=first)["state"] == "cancelled"
        request = line.value("wait_request", {"request": mine["request"]["id"]}, key=first)
        assert (request["state"], request["outcome"]) == ("failed", "it was cancelled")
        assert line.ask("cancel_job", {"job": id}, key=first)["code"] == "conflict"


def test_the_owner_sees_logs_and_cancels_over_http(service: Service) -> None:
    with Line(service) as line:
        id = line.value("download_model", {"model": "big"})["job"]["id"]
        wait_for_bytes(line, id)
    jobs = service.ask("GET", "/admin/jobs")[1]["jobs"]
    assert [(job["id"], job["state"]) for job in jobs] == [(id, "running")]
    assert service.ask("GET", f"/admin/jobs/{id[:8]}")[1]["id"] == id
    log = service.ask("GET", f"/admin/jobs/{id}/log")[1]
    assert "resolving: " in log["text"]
    assert service.ask("GET", f"/admin/jobs/{id}/log?offset={log['offset']}")[1]["text"] == ""
    assert service.ask("GET", f"/admin/jobs/{id}/log?offset=-1")[0] == 400
    assert service.ask("POST", f"/admin/jobs/{id}/cancel")[1]["state"] == "cancelling"
    wait_until(lambda: service.ask("GET", f"/admin/jobs/{id}")[1]["state"] == "cancelled", 10)
    assert service.ask("POST", f"/admin/jobs/{id}/cancel")[0] == 409
    assert service.ask("GET", "/admin/jobs/nothing-like-it")[0] == 404


def test_three_pulls_run_beside_each_other_and_the_next_begins_when_one_ends(home: Path, paths: Paths) -> None:
    def in_state(state: str) -> list[str]:
        return [job.id for job in list_jobs(paths) if job.state == state]

    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, never answers
    with silent, starting(Service(home, {"PANTRY_URL_DOWNLOADS": "true"})) as service, Line(service) as line:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        for number in range(5):
            line.value("download_model", {"model": f"m{number}", "url": f"{address}/m{number}.fpk"})
        wait_until(lambda: len(in_state("running")) == 3, 20)
        assert len(in_state("queued")) == 2
        first = in_state("running")[0]
        silent.accept()[0].close()  # it waits for an answer that does not come, and can be stopped there
        line.value("cancel_job", {"job": first})
        assert line.value("wait_job", {"job": first})["state"] == "cancelled"
        wait_until(lambda: len(in_state("running")) == 3, 20)
        assert len(in_state("queued")) == 1


def test_the_owners_client_waits_for_its_download_or_raises_why_it_failed(
    service: Service, slow_server: FileServer
) -> None:
    client = Client(paths=service.paths)
    with pytest.raises(NotFoundError, match="nowhere-model"):
        client.download("nowhere-model")
    slow_server.faults.pause = 0
    client.download("big")
    assert "big" in [model.name for model in client.models()]


def test_a_job_of_an_unknown_kind_fails_in_words(service: Service) -> None:
    with Database(service.paths.database) as database:
        job = Jobs(database, service.paths.job_logs).add("knit", "a scarf", {})
    wait_until(lambda: get_job(service.paths, job.id).ended, 10)
    failed = get_job(service.paths, job.id)
    assert failed.error
    assert (failed.state, failed.error.code) == ("failed", "not_found")
    assert "kind of job 'knit'" in failed.error.message


def test_a_job_that_does_not_stop_in_time_with_the_service_counts_no_kill(
    home: Path, paths: Paths, slow_server: FileServer
) -> None:
    with starting(Service(home)) as service, Line(service) as line:
        id = line.value("download_model", {"model": "big"})["job"]["id"]
        os.kill(wait_for_bytes(line, id)["process"], signal.SIGSTOP)
        service.stop()
        job = get_job(paths, id)
    assert (job.state, job.runs, job.kills) == ("queued", 1, 0)


def test_a_job_whose_process_cannot_be_started_fails_and_is_not_tried_again_and_again(home: Path, paths: Paths) -> None:
    with starting(Service(home)) as service:
        moved = paths.run.rename(paths.run.with_name("moved"))
        call = {"function": "download_model", "parameters": {"model": "big"}}
        id = service.ask("POST", "/call", call)[1]["value"]["job"]["id"]
        wait_until(lambda: get_job(paths, id).ended, 10)
        moved.rename(paths.run)
    failed = get_job(paths, id)
    assert failed.error
    assert (failed.state, failed.error.code) == ("failed", "storage_error")
    assert failed.error.message.startswith("Starting a process for the job failed: it does not exist")


def test_a_call_whose_model_must_be_downloaded_says_so_instead_of_waiting(home: Path, paths: Paths) -> None:
    call = {"fallback_mode": "requirements_download", "model_requirements": ["context>=100000"], "prompt": "Hello"}
    with starting(Service(home, {"PANTRY_OFFLINE": "true"})) as service:
        status, _, content = service.ask_raw("POST", "/call", {"function": "call_llm", "parameters": call})
    told = json.loads(content)
    assert (status, told["code"]) == (503, "busy"), told
    job = list_jobs(paths)[0]
    assert f"is being downloaded (job {job.id})" in told["message"]
