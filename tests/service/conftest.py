"""One service with echo models for all tests that do not change it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.running import Service, starting


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service") / "home", {"PANTRY_BODY_TIMEOUT": "1.5"})
    service.add_echo("echo", context=50)
    service.add_echo("slow", delay=0.05, repeat=100)
    service.add_echo("prefill", prefill=30)
    service.add_echo("dies", die_after=2)
    service.add_echo("never-loads", load="fail")
    service.add_echo("liar", reply='{"name": 7}')
    service.add_echo("json", reply='{"name":"fox"}')
    with starting(service):
        yield service


@pytest.fixture
def home_folder(tmp_path: Path) -> Path:
    return tmp_path / "own-home"
