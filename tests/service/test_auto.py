"""`model: "auto"`: the answer says which model wrote it and why."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.running import Service, starting

HELLO = [{"role": "user", "content": "one two"}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("auto") / "home")
    service.add_echo("echo", context=600)
    with starting(service):
        yield service


def ask(service: Service, **body: Any) -> tuple[int, dict[str, str], bytes]:
    return service.ask_raw("POST", "/v1/chat/completions", {"messages": HELLO, **body})


def test_short_form_chooses_and_says_why(service: Service) -> None:
    status, headers, content = ask(service, model="auto:context>=50", pantry={"prefer": ["context"]}, max_tokens=2)
    assert status == 200, content
    assert headers["X-Pantry-Model"]
    assert headers["X-Pantry-Model"] in headers["X-Pantry-Reason"]


def test_stream_carries_the_choice_too(service: Service) -> None:
    status, headers, _ = ask(service, model="auto", stream=True, max_tokens=1)
    assert status == 200
    assert headers["X-Pantry-Model"]


def test_needs_that_nothing_meets_say_what_excluded_how_many(service: Service) -> None:
    status, _, content = ask(service, model="auto", pantry={"needs": ["context>=1000000"]})
    assert status == 404
    assert b"context" in content


def test_unknown_need_names_the_nearest(service: Service) -> None:
    status, _, content = ask(service, model="auto:CODNG")
    assert status == 400
    assert b"CODING" in content


def test_named_model_has_no_choice_to_tell(service: Service) -> None:
    assert "X-Pantry-Model" not in ask(service, model="echo")[1]
