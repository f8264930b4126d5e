"""`model: "auto"`: the answer says which model wrote it and why."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pantry.catalogue.lookup import Catalogue
from pantry.core.paths import find_paths
from pantry.evaluation.scores import add_scores
from pantry.operations.choose import choose, loaded_names
from pantry.policy.file import set_rules
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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"need": ["CODING"]}, "pantry: has no key 'need'. Did you mean 'needs'?"),
        ({"fallback": "none"}, "pantry: has no key 'fallback'. Did you mean 'fallback_mode'?"),
        ({"zzz": 1}, "pantry: has no key 'zzz'. Known: needs, prefer, fallback_mode."),
        (["CODING"], "pantry: is an object, like"),
        ({"needs": [1]}, "pantry.needs.0: Input should be"),
        ({"prefer": "sped"}, "There is no preference 'sped'. Did you mean 'speed'?"),
        ({"fallback_mode": "lod"}, "There is no fallback mode 'lod'. Did you mean 'load'?"),
        ({"needs": ["context>=99999999999999999999999999"]}, "the number is too large"),
    ],
)
def test_wrong_pantry_object_is_told_with_the_nearest(service: Service, given: object, told: str) -> None:
    status, _, content = ask(service, model="auto", pantry=given)
    assert status == 400
    assert told in json.loads(content)["error"]["message"]
    assert not json.loads(content)["error"]["message"].endswith(("?.", ".."))


def test_needs_may_be_one_text(service: Service) -> None:
    given = {"needs": "context>=50,local", "prefer": "context,speed"}
    assert ask(service, model="auto", pantry=given, max_tokens=1)[0] == 200


@pytest.mark.parametrize(("needs", "prefer"), [("context>=50", "speed"), ("", ""), ("local", "small,speed")])
def test_same_question_has_the_same_answer_here_and_on_the_command_line(
    service: Service, needs: str, prefer: str
) -> None:
    service.add_echo("echo-large", context=4000)
    ask(service, model="echo", max_tokens=1)
    paths = find_paths({"PANTRY_HOME": str(service.home)})
    choice = choose(needs, prefer=prefer, mode="requirements_load", paths=paths, loaded=loaded_names(paths))
    _, headers, content = ask(service, model="auto", pantry={"needs": needs, "prefer": prefer}, max_tokens=1)
    assert headers["X-Pantry-Model"] == choice.model, content
    assert headers["X-Pantry-Reason"] == choice.reason
    assert "tokens/s (estimated)" in choice.reason


def test_service_starts_without_the_rules_of_choice() -> None:
    code = "import sys, pantry.service.server; sys.exit('pantry.selection' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_named_model_has_no_choice_to_tell(service: Service) -> None:
    assert "X-Pantry-Model" not in ask(service, model="echo")[1]


def test_policy_and_scores_count_as_soon_as_they_are_written(service: Service, tmp_path: Path) -> None:
    paths = find_paths({"PANTRY_HOME": str(service.home)})
    catalogue = Catalogue.open(paths)
    assert ask(service, model="auto", max_tokens=1)[0] == 200
    try:
        set_rules(paths, catalogue, {"mode": "enforce", "minimum_evidence.coding": "3"})
        status, _, content = ask(service, model="auto", max_tokens=1)
        assert (status, b"coding was not measured here" in content) == (404, True), content
        file = tmp_path / "scores.json"
        row = {"capability": "coding", "score": 4, "date": "2026-11-20", "engine": "echo", "task": "by hand"}
        file.write_text(json.dumps({"score": [row | {"model": "echo"}]}))
        add_scores(paths, catalogue, file)
        status, headers, content = ask(service, model="auto:coding>=4", max_tokens=1)
        assert status == 200, content
        assert "coding 4 (measured 2026-11-20 with echo)" in headers["X-Pantry-Reason"]
        (paths.config / "policy.toml").unlink()
        (paths.config / "policy.toml").symlink_to(tmp_path / "nowhere")
        assert ask(service, model="auto", max_tokens=1)[0] == 400
    finally:
        (paths.config / "policy.toml").unlink()
    assert ask(service, model="auto", max_tokens=1)[0] == 200
