"""Downloads that apps and links ask for: from a real repository, and nothing else on this machine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.access.requests import Limits, decide_request, list_requests
from pantry.core.errors import NotFoundError, PolicyRefusedError, UsageError
from pantry.core.paths import Paths
from pantry.operations.pull import download_model
from pantry.operations.repositories import add_repository
from tests.repository.flatpacks import Published, make_flatpack, trust_signer
from tests.repository.servers import serving
from tests.service.calling import Line, make_app
from tests.service.running import Service, starting


@pytest.fixture
def stocked(paths: Paths, tmp_path: Path) -> Iterator[Paths]:
    """A home that knows a repository with the model `fox`."""
    lab = Published(tmp_path / "lab").create()
    lab.publish(make_flatpack(tmp_path / "work"))
    with serving(lab.folder) as server:
        trust_signer(paths)
        add_repository(paths, "lab", server.url, lab.folder / "root.json")
        yield paths


def nothing(done: int, total: int) -> None: ...


def test_model_is_fetched_by_name_with_progress(stocked: Paths) -> None:
    told: list[tuple[int, int]] = []
    model = download_model(stocked, "fox", None, lambda done, total: told.append((done, total)))
    assert str(model.name) == "fox"
    assert told
    assert told[-1][0] == told[-1][1]


@pytest.mark.parametrize("name", ["x.fpk", "nowhere"])
def test_names_reach_repositories_only(stocked: Paths, name: str) -> None:
    with pytest.raises((NotFoundError, UsageError)):
        download_model(stocked, name, None, nothing)


@pytest.mark.parametrize("url", ["/etc/passwd", "./x.fpk", "~/x.fpk", "fox", "x.fpk"])
def test_paths_of_this_machine_are_no_address(stocked: Paths, url: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        download_model(stocked, "fox", url, nothing)


def test_address_needs_its_setting(stocked: Paths) -> None:
    with pytest.raises(PolicyRefusedError, match="url_downloads"):
        download_model(stocked, "fox", "https://models.example/fox.fpk", nothing)


def test_app_asks_the_user_approves_and_the_model_is_there(stocked: Paths, home: Path) -> None:
    service = Service(home)
    key = make_app(stocked, "Notes", "request-download", "view")
    with starting(service), Line(service) as line:
        asked = line.value("download_model", {"model": "fox"}, key=key)
        assert asked["state"] == "requested"
        request, words = list_requests(stocked)[0]
        assert words.startswith("Notes wants to download fox")
        decide_request(stocked, request.id, Limits())
        done = line.value("wait_request", {"request": request.id})
        assert (done["state"], done["outcome"]) == ("done", "downloaded")
        assert "fox" in [each["name"] for each in line.value("list_models")["models"]]


def test_app_that_may_download_gets_a_running_request(stocked: Paths, home: Path) -> None:
    service = Service(home)
    key = make_app(stocked, "Notes", "download")
    with starting(service), Line(service) as line:
        started = line.value("download_model", {"model": "fox"}, key=key)
        assert (started["state"], started["request"]["accepted"]) == ("downloading", True)
        assert line.value("wait_request", {"request": started["request"]["id"]})["state"] == "done"
        assert line.value("download_model", {"model": "fox"})["state"] == "installed"


def test_failed_download_says_why(stocked: Paths, home: Path) -> None:
    service = Service(home)
    key = make_app(stocked, "Notes", "download")
    with starting(service), Line(service) as line:
        started = line.value("download_model", {"model": "nowhere-model"}, key=key)
        done = line.value("wait_request", {"request": started["request"]["id"]})
        assert (done["state"], done["accepted"]) == ("failed", False)
        assert "nowhere-model" in done["outcome"]
