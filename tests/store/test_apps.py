"""Apps, their requests and their sessions in the state database."""

import time
from collections.abc import Iterator

import pytest

from pantry.core.errors import ConflictError, NotFoundError, TooLargeError
from pantry.core.paths import Paths
from pantry.core.permissions import Grant, Permission
from pantry.core.refs import ModelName
from pantry.store.apps import Apps
from pantry.store.database import Database
from pantry.store.keys import Keys
from pantry.store.requests import KEPT, Requests
from pantry.store.sessions import Sessions

FOX = ModelName("fox")


@pytest.fixture
def database(paths: Paths) -> Iterator[Database]:
    with Database(paths.database) as opened:
        yield opened


def test_new_app_has_no_permission(database: Database) -> None:
    app = Apps(database).add("Notes")
    assert app.grants == {}
    assert Apps(database).count_without_grants() == 1


def test_grants_survive_and_are_withdrawn(database: Database) -> None:
    apps = Apps(database)
    app = apps.add("Notes")
    apps.grant(app.id, [Permission.LOAD, Permission.SESSION], Grant(("qwen*",), 5.0))
    assert apps.get(app.id).grants == {
        Permission.LOAD: Grant(("qwen*",), 5.0),
        Permission.SESSION: Grant(("qwen*",), 5.0),
    }
    assert apps.withdraw(app.id, [Permission.LOAD, Permission.VIEW]) == 1
    assert list(apps.get(app.id).grants) == [Permission.SESSION]


def test_app_is_found_by_name_or_start_of_id(database: Database) -> None:
    apps = Apps(database)
    app = apps.add("Notes")
    assert apps.find("Notes").id == apps.find(app.id[:8]).id == app.id
    apps.add("Notes")
    with pytest.raises(NotFoundError, match="Use the id"):
        apps.find("Notes")
    with pytest.raises(NotFoundError, match="Did you mean 'Notes'"):
        apps.find("Nots")


def test_removed_app_takes_keys_requests_and_sessions_with_it(database: Database) -> None:
    apps, sessions = Apps(database), Sessions(database, 10_000)
    app = apps.add("Notes")
    _, key = Keys(database).create("Notes", app.id)
    request = Requests(database).add(app.id, "load", {"model": "fox"}, "")
    session = sessions.create(app.id, FOX, {})
    sessions.append(session, [("user", b"hello")])
    assert apps.remove(app.id)
    assert Keys(database).find(key) is None
    assert database.rows("SELECT * FROM turns") == []
    with pytest.raises(NotFoundError):
        Requests(database).get(request.id)
    with pytest.raises(NotFoundError):
        sessions.get(app.id, session.id)


def test_tokens_are_counted_for_today(database: Database) -> None:
    apps = Apps(database)
    app = apps.add("Notes")
    apps.count_tokens(app.id, 10)
    apps.count_tokens(app.id, 5)
    apps.count_tokens("gone", 5)
    assert apps.get(app.id).used_today == 15
    database.execute("UPDATE app_usage SET day = '2001-01-01'")
    assert apps.get(app.id).used_today == 0
    apps.count_tokens(app.id, 1)
    assert len(database.rows("SELECT * FROM app_usage")) == 1


def test_request_is_decided_once(database: Database) -> None:
    requests = Requests(database)
    request = requests.add(Apps(database).add("Notes").id, "load", {"model": "fox"}, "to write")
    assert (request.state, request.app_name, request.reason) == ("pending", "Notes", "to write")
    requests.decide(request.id, "approved")
    with pytest.raises(ConflictError, match="approved"):
        requests.decide(request.id, "refused")
    requests.finish(request.id, "done", "loaded")
    found = requests.get(request.id)
    assert (found.complete, found.accepted) == (True, True)


def test_decided_requests_are_kept_up_to_a_number(database: Database) -> None:
    requests = Requests(database)
    app = Apps(database).add("Notes").id
    for number in range(KEPT + 5):
        made = requests.add(app, "load", {"model": f"m{number}"}, "")
        requests.decide(made.id, "refused")
    waiting = requests.add(app, "load", {"model": "fox"}, "")
    assert len(requests.list(app=app)) == KEPT
    assert requests.list(state="pending") == [waiting]


def test_parameters_of_sessions_are_inside_the_bound_too(database: Database) -> None:
    sessions, app = Sessions(database, 1000), Apps(database).add("Notes").id
    made = [sessions.create(app, FOX, {"stop": "x" * 400}) for _ in range(5)]
    assert [each.id for each in sessions.of_app(app)] == [each.id for each in reversed(made[-2:])]
    with pytest.raises(TooLargeError):
        sessions.create(app, FOX, {"stop": "x" * 1000})


def test_session_of_another_app_does_not_exist(database: Database) -> None:
    sessions, apps = Sessions(database, 10_000), Apps(database)
    mine, other = apps.add("Notes").id, apps.add("Other").id
    session = sessions.create(mine, FOX, {"seed": 1})
    assert sessions.get(mine, session.id).parameters == {"seed": 1}
    for stranger in (other, None):
        with pytest.raises(NotFoundError):
            sessions.get(stranger, session.id)
        assert not sessions.delete(stranger, session.id)
    assert sessions.delete(mine, session.id)


def test_turns_are_kept_in_order(database: Database) -> None:
    sessions = Sessions(database, 10_000)
    session = sessions.create(None, FOX, {})
    sessions.append(session, [("user", b"one"), ("assistant", b"two")])
    sessions.append(session, [("user", b"three")])
    assert sessions.turns(session) == [("user", b"one"), ("assistant", b"two"), ("user", b"three")]
    assert sessions.get(None, session.id).size == 11


def test_oldest_session_goes_when_the_bound_is_reached(database: Database) -> None:
    sessions = Sessions(database, 100)
    first, second = sessions.create(None, FOX, {}), sessions.create(None, FOX, {})
    sessions.append(first, [("user", b"x" * 60)])
    sessions.append(second, [("user", b"x" * 60)])
    assert [each.id for each in sessions.of_app(None)] == [second.id]
    with pytest.raises(TooLargeError):
        sessions.append(second, [("user", b"x" * 41)])
    assert sessions.get(None, second.id).size == 60


def test_sessions_as_large_as_the_bound_stay(database: Database) -> None:
    sessions = Sessions(database, 100)
    first, second = sessions.create(None, FOX, {}), sessions.create(None, FOX, {})
    sessions.append(first, [("user", b"x" * 40)])
    sessions.append(second, [("user", b"x" * 60)])
    assert {each.id for each in sessions.of_app(None)} == {first.id, second.id}
    sessions.append(second, [("user", b"x" * 40)])
    assert [each.size for each in sessions.of_app(None)] == [100]


def test_sessions_expire(database: Database) -> None:
    sessions = Sessions(database, 100)
    session = sessions.create(None, FOX, {})
    assert sessions.expire(time.time() - 10) == 0
    assert sessions.expire(time.time() + 10) == 1
    assert sessions.of_app(None) == []
    with pytest.raises(NotFoundError):
        sessions.append(session, [("user", b"late")])
