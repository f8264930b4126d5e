"""pantry app and pantry request, as a person uses them."""

import json

import pytest
from typer.testing import CliRunner, Result

from pantry.access.apps import caller_of_key
from pantry.access.requests import ask
from pantry.cli._app import build_app
from pantry.core.errors import ConflictError, NotFoundError, PantryError, UsageError
from pantry.core.paths import Paths
from pantry.core.settings import Settings
from pantry.store.database import Database


def run(*words: str) -> Result:
    result = CliRunner().invoke(build_app(), list(words))
    if isinstance(result.exception, PantryError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def asked(paths: Paths, key: str, kind: str = "load") -> str:
    with Database(paths.database) as database:
        return ask(database, Settings(), caller_of_key(database, key), kind, {"model": "fox"}, "to write").id  # type: ignore[arg-type]


def test_app_is_added_changed_and_removed(paths: Paths) -> None:
    key = run("app", "add", "Notes", "--allow", "session", "--models", "qwen*").stdout.strip().splitlines()[-1]
    assert key.startswith("pk-")
    assert run("app", "allow", "Notes", "load").stdout == "Notes may now: load, session.\n"
    assert "load, session" in run("app", "list").stdout
    assert "models qwen*" in run("app", "show", "Notes").stdout
    assert "never" in run("app", "show", "Notes").stdout
    assert run("app", "deny", "Notes", "load").stdout == "Notes may now: session.\n"
    assert run("app", "limit", "Notes", "500").stdout == "Notes: 500 tokens a day.\n"
    listed = json.loads(run("app", "list", "--json").stdout)
    assert (listed[0]["name"], listed[0]["tokens_per_day"], list(listed[0]["grants"])) == ("Notes", 500, ["session"])
    fresh = run("app", "key", "Notes").stdout.strip()
    assert fresh != key
    assert run("app", "remove", "Notes").stdout == "Removed Notes.\n"
    assert "No app" in run("app", "list").stdout


def test_wrong_names_are_told_the_nearest(paths: Paths) -> None:
    run("app", "add", "Notes")
    with pytest.raises(NotFoundError, match="Notes"):
        run("app", "show", "Nots")
    with pytest.raises(UsageError, match="session"):
        run("app", "allow", "Notes", "sesion")
    with pytest.raises(UsageError, match="--unapproved"):
        run("app", "remove")
    assert run("app", "remove", "--unapproved").stdout == "Removed 1 apps.\n"


def test_request_is_listed_approved_and_refused(paths: Paths) -> None:
    key = run("app", "add", "Notes", "--allow", "request-load").stdout.strip().splitlines()[-1]
    first = asked(paths, key)
    listed = run("request", "list").stdout
    assert "Notes wants to load fox (to write)" in listed
    assert first[:8] in listed
    assert run("request", "approve", first[:8], "--always").stdout == "Approved: Notes wants to load fox.\n"
    assert "load" in run("app", "list").stdout
    second = asked(paths, key, "unload")
    assert run("request", "refuse", second[:8]).stdout == "Refused: Notes wants to unload fox.\n"
    with pytest.raises(ConflictError, match="refused"):
        run("request", "approve", second[:8])
    assert "Nothing waits" in run("request", "list").stdout
    states = [each["state"] for each in json.loads(run("request", "list", "--all", "--json").stdout)]
    assert states == ["approved", "refused"]
