"""Asking and answering, and registering, inside their bounds."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.access.apps import (
    MAX_DAYS,
    REGISTRATIONS,
    Registrar,
    caller_of_key,
    expiry,
    new_app,
    new_key,
    parse_origin,
    remove_app,
)
from pantry.access.requests import (
    MAX_PENDING,
    Limits,
    approve,
    ask,
    ask_for_permissions,
    describe,
    own_request,
    refuse,
)
from pantry.core.errors import ForbiddenError, NotFoundError, RateLimitError, UnauthorisedError, UsageError
from pantry.core.paths import Paths
from pantry.core.permissions import OWNER, Caller, Permission
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.store.apps import Apps
from pantry.store.database import Database
from pantry.store.keys import Keys
from pantry.store.models import Store

SETTINGS = Settings()


@pytest.fixture
def database(paths: Paths) -> Iterator[Database]:
    with Database(paths.database) as opened:
        yield opened


@pytest.fixture
def notes(database: Database) -> Caller:
    return new_app(database, "Notes")[0].caller()


def test_key_tells_owner_from_app(database: Database) -> None:
    app, key = new_app(database, "Notes")
    _, owner = Keys(database).create("owner")
    assert caller_of_key(database, owner) == OWNER
    assert caller_of_key(database, key).app == app.id


def test_new_key_ends_the_old_one(database: Database, paths: Paths) -> None:
    app, key = new_app(database, "Notes")
    _, fresh = new_key(paths, "Notes")
    assert caller_of_key(database, fresh).app == app.id
    with pytest.raises(UnauthorisedError):
        caller_of_key(database, key)


def test_key_of_a_removed_app_is_nobodys(database: Database, paths: Paths) -> None:
    _, key = new_app(database, "Notes")
    remove_app(paths, "Notes")
    with pytest.raises(UnauthorisedError):
        caller_of_key(database, key)


def test_registration_flood_is_refused(database: Database) -> None:
    registrar = Registrar(database, SETTINGS)
    for number in range(REGISTRATIONS):
        registrar.register(f"app {number}")
    with pytest.raises(RateLimitError):
        registrar.register("one more")
    assert len(Apps(database).list()) == REGISTRATIONS


def test_registration_can_be_turned_off(database: Database) -> None:
    with pytest.raises(ForbiddenError):
        Registrar(database, Settings(register_apps=False)).register("Notes")


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "bad\x1b[31mname", "a\u202eb"])
def test_names_that_could_mislead_are_refused(database: Database, name: str) -> None:
    with pytest.raises(UsageError):
        new_app(database, name)


def test_a_name_of_the_longest_length_is_taken(database: Database) -> None:
    assert new_app(database, "x" * 80)[0].name == "x" * 80


@pytest.mark.parametrize("days", [0, -1, MAX_DAYS + 0.001, float("nan"), float("inf")])
def test_days_outside_their_bounds_are_refused(days: float) -> None:
    with pytest.raises(UsageError, match="not a valid time"):
        expiry(days)


def test_the_most_days_are_taken() -> None:
    assert expiry(MAX_DAYS) == pytest.approx(time.time() + MAX_DAYS * 86400, abs=60)


def test_asking_twice_is_one_request(database: Database, notes: Caller) -> None:
    first = ask(database, SETTINGS, notes, "load", {"model": "fox"})
    assert ask(database, SETTINGS, notes, "load", {"model": "fox"}).id == first.id
    assert ask(database, SETTINGS, notes, "unload", {"model": "fox"}).id != first.id


def test_pending_requests_of_an_app_are_bounded(database: Database, notes: Caller) -> None:
    for number in range(MAX_PENDING):
        ask(database, SETTINGS, notes, "load", {"model": f"m{number}"})
    with pytest.raises(RateLimitError):
        ask(database, SETTINGS, notes, "load", {"model": "one-more"})


def test_approved_permissions_hold_at_once_with_their_limits(database: Database, notes: Caller) -> None:
    assert notes.app
    request = ask_for_permissions(database, SETTINGS, notes, [Permission.SESSION, Permission.LOAD])
    done = approve(database, request, Limits(models=("qwen*",), days=1, tokens_per_day=500))
    assert (done.state, done.complete, done.accepted) == ("done", True, True)
    app = Apps(database).get(notes.app)
    assert app.tokens_per_day == 500
    assert app.grants[Permission.SESSION].models == ("qwen*",)
    assert app.grants[Permission.SESSION].expires_at


def test_refused_request_grants_nothing(database: Database, notes: Caller) -> None:
    assert notes.app
    request = refuse(database, ask_for_permissions(database, SETTINGS, notes, [Permission.SESSION]))
    assert (request.complete, request.accepted) == (True, False)
    assert Apps(database).get(notes.app).grants == {}


def test_once_grants_nothing_and_always_grants_that_model(database: Database, notes: Caller) -> None:
    assert notes.app
    approve(database, ask(database, SETTINGS, notes, "load", {"model": "fox"}), Limits())
    assert Apps(database).get(notes.app).grants == {}
    for model in ("owl", "hen"):
        approve(database, ask(database, SETTINGS, notes, "load", {"model": model}), Limits(always=True))
    assert Apps(database).get(notes.app).grants[Permission.LOAD].models == ("owl", "hen")


def test_setting_approves_by_itself_but_never_superuser(database: Database, notes: Caller) -> None:
    settings = Settings(approve=("permission", "load"))
    assert ask(database, settings, notes, "load", {"model": "fox"}).state == "approved"
    assert ask_for_permissions(database, settings, notes, [Permission.SESSION]).state == "done"
    wants_all = ask_for_permissions(database, settings, notes, [Permission.SUPERUSER])
    assert wants_all.state == "pending"


def test_request_of_another_app_does_not_exist(database: Database, notes: Caller) -> None:
    other = new_app(database, "Other")[0].caller()
    request = ask(database, SETTINGS, notes, "load", {"model": "fox"})
    assert own_request(database, notes, request.id) == own_request(database, OWNER, request.id) == request
    with pytest.raises(NotFoundError):
        own_request(database, other, request.id)


def test_description_says_who_wants_what(database: Database, notes: Caller) -> None:
    request = ask(database, SETTINGS, notes, "download", {"model": "fox", "url": "https://models.example/fox.gguf"})
    assert describe(request) == "Notes wants to download fox from https://models.example/fox.gguf"


def test_description_of_a_known_model_has_size_and_licence(database: Database, notes: Caller) -> None:
    line = describe(ask(database, SETTINGS, notes, "download", {"model": "qwen3-0.6b"}))
    assert line == "Notes wants to download qwen3-0.6b (380 MB, Apache-2.0)"


@pytest.mark.parametrize(("licence", "shown"), [("apache-2.0", "Apache-2.0"), ("my own terms", "my own terms")])
def test_description_of_an_installed_model_has_its_licence(
    paths: Paths, tmp_path: Path, licence: str, shown: str
) -> None:
    file = tmp_path / "fox.echo"
    file.write_bytes(b"{}" + b" " * 5998)
    with Store.open(paths) as store:
        store.add(ModelName.parse("fox"), file, format="echo", source="", facts={"licence": licence})
        notes = new_app(store.database, "Notes")[0].caller()
        request = ask(store.database, SETTINGS, notes, "load", {"model": "fox"})
        assert describe(request, store, paths) == f"Notes wants to load fox (6 kB, {shown})"


def test_description_of_permissions_says_what_superuser_is(database: Database, notes: Caller) -> None:
    asked = ask_for_permissions(database, SETTINGS, notes, [Permission.SUPERUSER, Permission.VIEW])
    assert describe(asked) == "Notes asks for the permissions superuser (everything that you may do), view"
    asked = ask_for_permissions(database, SETTINGS, notes, [Permission.VIEW])
    assert describe(asked) == "Notes asks for the permission view"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Notes.example:443/", "https://notes.example"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://[::1]:80", "http://[::1]"),
    ],
)
def test_origin_has_one_form(text: str, origin: str) -> None:
    assert parse_origin(text) == origin


@pytest.mark.parametrize(
    "text", ["", "null", "notes.example", "file:///x", "https://u@x", "https://x:99999", "http://["]
)
def test_other_texts_are_no_origin(text: str) -> None:
    with pytest.raises(UsageError):
        parse_origin(text)


def test_expiry_lies_ahead() -> None:
    assert expiry(None) is None
    with pytest.raises(UsageError):
        expiry(0)
