"""Conversations that the service keeps."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.service.calling import Line, make_app
from tests.service.running import Service, starting, wait_until


@pytest.fixture
def line(service: Service):
    with Line(service) as opened:
        yield opened


def begin(line: Line, model: str = "echo", **more: object) -> str:
    return str(line.value("create_session", {"preferred_model": model, **more})["session"])


def test_history_is_kept_and_listed(line: Line) -> None:
    session = begin(line, system="Be short.")
    first = line.value("call_session", {"session": session, "prompt": "one two"})
    assert (first["text"], first["session"]) == ("one two", session)
    line.value("call_session", {"session": session, "prompt": "three"})
    messages = line.value("get_session", {"session": session})["messages"]
    assert [each["role"] for each in messages] == ["system", "user", "assistant", "user", "assistant"]
    assert messages[-1]["content"] == "three"
    assert line.value("list_sessions")["sessions"][0]["session"] == session


def test_parameters_of_the_session_hold_for_every_turn(line: Line) -> None:
    session = begin(line, max_tokens=1)
    assert line.value("call_session", {"session": session, "prompt": "one two"})["text"] == "one"
    longer = line.value("call_session", {"session": session, "prompt": "one two", "max_tokens": 2})
    assert longer["text"] == "one two"


def test_interrupt_keeps_what_was_written(service: Service, line: Line) -> None:
    session = begin(line, "slow")
    line.send("call_session", {"session": session, "prompt": "w", "stream": True}, id=1)
    assert line.read()["status"] == "partial"
    busy = Line(service)
    assert busy.ask("call_session", {"session": session, "prompt": "x"})["code"] == "conflict"
    assert busy.value("interrupt_session", {"session": session})["interrupted"] is True
    while (reply := line.read())["status"] == "partial":
        pass
    assert reply["status"] == "success"
    kept = line.value("get_session", {"session": session})["messages"][-1]["content"]
    assert kept == reply["value"]["text"]
    assert 0 < len(kept.split()) < 100
    assert busy.value("interrupt_session", {"session": session})["interrupted"] is False
    busy.__exit__()


def test_turn_of_a_client_that_left_is_kept(service: Service) -> None:
    with Line(service) as line:
        session = begin(line, "slow")
        line.send("call_session", {"session": session, "prompt": "w", "stream": True})
        line.read()
    with Line(service) as line:
        wait_until(lambda: len(line.value("get_session", {"session": session})["messages"]) == 2)


def test_failed_turn_leaves_the_session_as_it_was(line: Line) -> None:
    session = begin(line, "dies")
    assert line.ask("call_session", {"session": session, "prompt": "a b c d"})["code"] == "engine_failed"
    assert line.value("get_session", {"session": session})["messages"] == []


def test_session_of_another_app_does_not_exist(service: Service, line: Line) -> None:
    session = begin(line)
    key = make_app(service.paths, "Thief", "session")
    with Line(service) as thief:
        for function in ("get_session", "delete_session", "interrupt_session"):
            assert thief.ask(function, {"session": session}, key=key)["code"] == "not_found"
        assert thief.ask("call_session", {"session": session, "prompt": "x"})["code"] == "not_found"
        assert thief.value("list_sessions")["sessions"] == []


def test_deleted_session_is_gone(line: Line) -> None:
    session = begin(line)
    assert line.value("delete_session", {"session": session})["deleted"] is True
    assert line.ask("get_session", {"session": session})["code"] == "not_found"


def test_sessions_survive_a_restart_and_end_with_their_app(home_folder: Path) -> None:
    from pantry.access.apps import remove_app

    service = Service(home_folder)
    service.add_echo()
    key = make_app(service.paths, "Notes", "session", "load")
    with starting(service), Line(service) as line:
        line.value("handshake", key=key)
        session = begin(line)
        line.value("call_session", {"session": session, "prompt": "one"})
    with starting(service), Line(service) as line:
        assert len(line.value("get_session", {"session": session}, key=key)["messages"]) == 2
        remove_app(service.paths, "Notes")
        assert line.ask("get_session", {"session": session})["code"] == "unauthorised"


def test_turned_off_by_setting(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_KEEP_SESSIONS": "false"})
    service.add_echo()
    with starting(service), Line(service) as line:
        assert line.ask("create_session", {"preferred_model": "echo"})["code"] == "forbidden"


def test_bound_of_bytes_is_held(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_SESSION_BYTES": "10000"})
    service.add_echo("echo", context=100_000, reply="ok")
    with starting(service), Line(service) as line:
        first = begin(line)
        line.value("call_session", {"session": first, "prompt": "x" * 6000})
        second = begin(line)
        line.value("call_session", {"session": second, "prompt": "x" * 6000})
        assert [each["session"] for each in line.value("list_sessions")["sessions"]] == [second]
        assert line.ask("call_session", {"session": second, "prompt": "x" * 6000})["code"] == "too_large"


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"stop": "x" * 100_000}, "stop"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_format": {"type": "yaml"}}, "response_format"),
    ],
)
def test_parameters_that_no_turn_could_use_begin_no_session(
    line: Line, parameters: dict[str, object], word: str
) -> None:
    told = line.ask("create_session", {"preferred_model": "echo", **parameters})
    assert (told["code"], word in told["message"]) == ("invalid_request", True)


@pytest.fixture
def ring(tmp_path: Path) -> dict[str, str]:
    """Settings that encrypt with a keyring that is the file ring.json; without the file's folder it is locked."""
    (tmp_path / "ring").mkdir()
    (tmp_path / "filekeyring.py").write_text(
        "import json, pathlib, time\n"
        "from keyring.backend import KeyringBackend\n"
        "from keyring.errors import KeyringLocked\n"
        f"FILE = pathlib.Path({str(tmp_path / 'ring' / 'ring.json')!r})\n"
        "class Ring(KeyringBackend):\n"
        "    priority = 1\n"
        "    def get_password(self, service, username):\n"
        "        if not FILE.parent.exists(): raise KeyringLocked('locked')\n"
        "        while (FILE.parent / 'asking').exists(): time.sleep(0.05)\n"
        "        return json.loads(FILE.read_text()).get(service + username) if FILE.exists() else None\n"
        "    def set_password(self, service, username, password):\n"
        "        FILE.write_text(json.dumps({service + username: password}))\n"
    )
    return {
        "PANTRY_ENCRYPT_SESSIONS": "true",
        "PYTHON_KEYRING_BACKEND": "filekeyring.Ring",
        "PYTHONPATH": str(tmp_path),
    }


def test_encrypted_history_is_unreadable_on_disk_and_readable_with_the_keyring(
    home_folder: Path, tmp_path: Path, ring: dict[str, str]
) -> None:
    service = Service(home_folder, ring)
    service.add_echo()
    with starting(service), Line(service) as line:
        session = begin(line, system="hidden-instructions")
        line.value("call_session", {"session": session, "prompt": "very-secret-words"})
    stored = b"".join(file.read_bytes() for file in service.paths.database.parent.glob("pantry.db*"))
    assert b"very-secret-words" not in stored
    assert b"hidden-instructions" not in stored
    with starting(service), Line(service) as line:
        messages = line.value("get_session", {"session": session})["messages"]
        assert [each["content"] for each in messages[:2]] == ["hidden-instructions", "very-secret-words"]
    (tmp_path / "ring" / "ring.json").write_text('{"pantrysessions": "' + "00" * 32 + '"}')
    with starting(service), Line(service) as line:
        assert "another key" in line.ask("get_session", {"session": session})["message"]


def test_keyring_that_asks_its_user_holds_up_nobody_else(
    home_folder: Path, tmp_path: Path, ring: dict[str, str]
) -> None:
    service = Service(home_folder, ring)
    service.add_echo()
    asking = tmp_path / "ring" / "asking"
    asking.touch()
    with starting(service), Line(service) as waiting, Line(service) as other, ThreadPoolExecutor(1) as threads:
        begun = threads.submit(begin, waiting, system="hidden-instructions")
        try:
            for _ in range(20):
                assert other.value("handshake", {"check": 1})["check"] == 1
            assert not begun.done()
        finally:
            asking.unlink()
        assert begun.result(timeout=20)


def test_no_session_begins_without_the_key(home_folder: Path, tmp_path: Path, ring: dict[str, str]) -> None:
    service = Service(home_folder, ring)
    service.add_echo()
    with starting(service), Line(service) as line:
        (tmp_path / "ring").rename(tmp_path / "locked")
        for system in ({}, {"system": "Be kind"}):
            told = line.ask("create_session", {"preferred_model": "echo", **system})
            assert (told["code"], "does not answer" in told["message"]) == ("storage_error", True)
        (tmp_path / "locked").rename(tmp_path / "ring")
        (tmp_path / "ring" / "ring.json").write_text('{"pantrysessions": "not a key"}')
        assert "damaged" in line.ask("create_session", {"preferred_model": "echo"})["message"]
        assert line.value("list_sessions")["sessions"] == []
