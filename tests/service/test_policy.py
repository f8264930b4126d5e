"""The policy at the moment a model is loaded."""

from pathlib import Path

import pytest

from tests.service.running import Service, starting

pytestmark = pytest.mark.slow
QUESTION = {"model": "echo", "messages": [{"role": "user", "content": "one two three"}]}


def test_service_loads_nothing_that_the_policy_refuses_or_while_it_cannot_be_read(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo()
    policy = service.paths.config / "policy.toml"
    policy.parent.mkdir(parents=True, exist_ok=True)
    policy.write_text('mode = "enforce"\nrequired_use = ["commercial"]\n')
    with starting(service):
        status, answer = service.ask("POST", "/v1/chat/completions", QUESTION)
        assert (status, answer["error"]["code"]) == (403, "policy_refused")
        assert "commercial use is allowed is not known" in answer["error"]["message"]
        policy.unlink()
        policy.mkdir()
        status, answer = service.ask("POST", "/v1/chat/completions", QUESTION)
        assert status == 400
        assert "policy.toml" in answer["error"]["message"]
        assert service.workers() == []
        policy.rmdir()
        assert service.ask("POST", "/v1/chat/completions", QUESTION)[0] == 200


def test_loaded_model_answers_no_more_once_the_policy_refuses_it(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo()
    policy = service.paths.config / "policy.toml"
    policy.parent.mkdir(parents=True, exist_ok=True)
    with starting(service):
        assert service.ask("POST", "/v1/chat/completions", QUESTION)[0] == 200
        policy.write_text('mode = "warn"\n')
        assert service.ask("POST", "/v1/chat/completions", QUESTION)[0] == 200
        before = [each.pid for each in service.workers()]
        policy.write_text('mode = "enforce"\nrequired_use = ["commercial"]\n')
        status, answer = service.ask("POST", "/v1/chat/completions", QUESTION)
        assert (status, answer["error"]["code"], len(before)) == (403, "policy_refused", 1)
        assert service.workers() == []
        policy.unlink()
        assert service.ask("POST", "/v1/chat/completions", QUESTION)[0] == 200
