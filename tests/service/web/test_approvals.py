"""The owner's page: apps, requests and answers over HTTP."""

import pytest

from tests.service.calling import Line, make_app
from tests.service.running import Service, wait_until


def test_request_is_shown_approved_with_limits_and_done(service: Service) -> None:
    key = make_app(service.paths, "Pager", "session", "request-load")
    with Line(service) as line:
        line.value("unload_llm", {"model": "json"})
        asked = line.value("load_llm", {"model": "json"}, key=key)["request"]
        shown = service.ask("GET", "/admin/requests")[1]["requests"]
        mine = next(each for each in shown if each["id"] == asked["id"])
        assert mine["description"].startswith("Pager wants to load json (")
        limits = {"always": True, "models": ["json"], "days": 1, "tokens_per_day": 100}
        status, answer = service.ask("POST", f"/admin/requests/{asked['id']}/approve", limits)
        assert (status, answer["accepted"]) == (200, True)
        assert line.value("wait_request", {"request": asked["id"]})["state"] == "done"
    app = next(each for each in service.ask("GET", "/admin/apps")[1]["apps"] if each["name"] == "Pager")
    assert app["grants"]["load"]["models"] == ["json"]
    assert app["tokens_per_day"] == 100
    assert service.ask("DELETE", f"/admin/apps/{app['id']}")[1]["removed"] is True
    assert service.ask("DELETE", f"/admin/apps/{app['id']}")[0] == 404


def test_request_is_refused_once(service: Service) -> None:
    key = make_app(service.paths, "Denied", "request-unload")
    with Line(service) as line:
        asked = line.value("unload_llm", {"model": "json"}, key=key)["request"]
    path = f"/admin/requests/{asked['id']}"
    assert service.ask("POST", f"{path}/refuse")[1]["state"] == "refused"
    assert service.ask("POST", f"{path}/approve", {})[0] == 409
    assert asked["id"] in [each["id"] for each in service.ask("GET", "/admin/requests?all=1")[1]["requests"]]
    assert asked["id"] not in [each["id"] for each in service.ask("GET", "/admin/requests")[1]["requests"]]


@pytest.mark.parametrize(
    "body",
    [[], {"forever": True}, {"always": "yes"}, {"days": True}, {"tokens_per_day": -1}, {"models": [1]}, {"days": 0}],
)
def test_wrong_limits_decide_nothing(service: Service, body: object) -> None:
    key = make_app(service.paths, "Limits", "request-unload")
    with Line(service) as line:
        asked = line.value("unload_llm", {"model": "slow"}, key=key)["request"]
    assert service.ask("POST", f"/admin/requests/{asked['id']}/approve", body)[0] == 400
    assert service.ask("POST", f"/admin/requests/{asked['id']}/refuse")[0] == 200


def test_apps_may_not_answer_for_the_owner(service: Service) -> None:
    key = make_app(service.paths, "Cheater", "request-unload", "session", "load")
    with Line(service) as line:
        asked = line.value("unload_llm", {"model": "echo"}, key=key)["request"]
    assert service.ask("POST", f"/admin/requests/{asked['id']}/approve", {}, key=key)[0] == 403
    assert service.ask("GET", "/admin/requests", key=key)[0] == 403
    assert service.ask("GET", "/admin/apps", key=key)[0] == 403


def test_app_that_called_is_seen(service: Service) -> None:
    key = make_app(service.paths, "Seen", "view")

    def seen() -> str | None:
        found = service.ask("GET", "/admin/apps")[1]["apps"]
        when: str | None = next(each for each in found if each["name"] == "Seen")["last_seen"]
        return when

    assert seen() is None
    assert service.ask("GET", "/v1/models", key=key)[0] == 200
    wait_until(seen, 10)
