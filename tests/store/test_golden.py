"""A store made by version 0.1.0, kept as it was: it opens, migrates, lists all it held, and answers."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pantry.access.apps import caller_of_key
from pantry.core.paths import Paths, find_paths
from pantry.core.permissions import Permission
from pantry.core.refs import ModelName
from pantry.evaluation.scores import list_scores
from pantry.evaluation.speeds import speeds_of
from pantry.store.garbage import collect, verify_all
from pantry.store.models import Store
from pantry.store.packages import Packages
from pantry.store.sessions import Sessions
from tests.service.running import Service, starting

GOLDEN = Path(__file__).parent / "golden" / "0.1.0"
KEY = "pk-3TunoeIu4Cx7aTv4W7iCqluosGHKjkDLP3jxCqoNDRU"
"""The key of the app in it; it opens nothing but copies of this store."""
LAYOUT = 5
"""The layout of a 0.1.0 database."""


@pytest.fixture
def old(home: Path) -> Paths:
    shutil.copytree(GOLDEN, home)
    return find_paths({"PANTRY_HOME": str(home)})


def dump(database: Path) -> list[str]:
    """All that a database holds but for when and how its blobs were last checked."""
    with sqlite3.connect(database) as connection:
        return [line for line in connection.iterdump() if not line.startswith('INSERT INTO "blobs"')]


def layout(database: Path) -> int:
    with sqlite3.connect(database) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_it_is_as_version_0_1_0_left_it() -> None:
    assert layout(GOLDEN / "data" / "pantry.db") == LAYOUT


def test_everything_in_it_is_still_there(old: Paths) -> None:
    with Store.open(old) as store:
        models = {str(model.name): model for model in store.list()}
        assert sorted(models) == ["ada-fox", "echo", "far", "tiny"]
        for model in models.values():
            (part,) = model.parts
            assert (part.role, part.digest, part.size) == ("weights", model.digest, model.size)
            assert store.verified_file(model).stat().st_size == model.size
        assert [models[name].parts[0].path for name in ("ada-fox", "echo", "tiny")] == [
            "fox.gguf",
            "model.echo",
            "model.gguf",
        ]
        assert [name for name, model in models.items() if model.remote] == ["far"]
        (package,) = Packages(store).list()
        assert (package.name, package.signer, len(Packages(store).files(package))) == ("ada/fox", "Ada", 3)
        assert Packages(store).without_model() == []
        app = caller_of_key(store.database, KEY)
        assert app.app is not None
        assert app.name == "Reader"
        assert app.grants[Permission.SESSION].models == ("echo",)
        (session,) = Sessions(store.database, 1_000_000).of_app(app.app)
        assert Sessions(store.database, 1_000_000).turns(session) == [("user", b"hello"), ("assistant", b"hello")]
        (score,) = list_scores(store.database)
        assert (score.model, score.capability, score.score) == (models["tiny"].digest, "coding", 4.5)
        assert speeds_of(store.database)[models["tiny"].digest].rate == 12.5
        assert verify_all(store) == []
        assert collect(store).files == 0


def test_second_open_changes_nothing(old: Paths) -> None:
    Store.open(old).close()
    first = dump(old.database)
    Store.open(old).close()
    assert dump(old.database) == first


def test_removing_its_package_removes_model_and_files(old: Paths) -> None:
    with Store.open(old) as store:
        assert store.remove(ModelName("ada-fox")) > 26_000
        assert Packages(store).list() == []
        assert len([file for file in old.blobs.rglob("*") if file.is_file()]) == 3


def test_its_echo_model_answers_owner_and_app(old: Paths, home: Path) -> None:
    body = {"model": "echo", "messages": [{"role": "user", "content": "still here"}]}
    with starting(Service(home)) as service:
        for key in ("owner", KEY):
            status, answer = service.ask("POST", "/v1/chat/completions", body, key=key)
            assert (status, answer["choices"][0]["message"]["content"]) == (200, "still here")
        assert service.ask("POST", "/v1/chat/completions", body | {"model": "tiny"}, key=KEY)[0] == 403


KILLED = """
import os, sys
from pathlib import Path
from pantry.store import database
statements = database._statements
def dying(script):
    for number, statement in enumerate(statements(script)):
        if "INSERT INTO model_parts" in statement:
            os.kill(os.getpid(), 9)
        yield statement
database._statements = dying
database.Database(Path(sys.argv[1]))
"""


def test_migration_that_was_killed_half_way_is_done_by_the_next_start(old: Paths) -> None:
    """The first migrations and the rebuilding of the table had run when the process was killed; nothing of it stays."""
    before = dump(old.database)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(old.database)], timeout=60, check=False)
    assert killed.returncode == -9
    assert (layout(old.database), dump(old.database)) == (LAYOUT, before)
    test_everything_in_it_is_still_there(old)
