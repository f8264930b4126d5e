"""The sandbox of recipe scripts, attacked by real scripts in a real bubblewrap."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pantry.core.errors import MemoryBudgetError, TrainingError, UsageError
from pantry.core.sandbox import Limits, require_sandbox, run_script

PLENTY = Limits(60, 2 << 30)
Run = Callable[..., list[str]]


@pytest.fixture
def bwrap() -> None:
    try:
        require_sandbox()
    except UsageError as error:
        pytest.skip(f"{error.message} (make test-tools)")


@pytest.fixture
def script(tmp_path: Path, bwrap: None) -> Run:
    """Runs the lines of a script in the sandbox; what it printed. `out` is the output folder's name."""

    def run(text: str, limits: Limits = PLENTY, name: str = "train.sh") -> list[str]:
        package = tmp_path / "pack"
        package.mkdir(exist_ok=True)
        (package / name).write_text(text)
        said: list[str] = []
        run_script(package, name, tmp_path / "out", limits, said.append)
        return said

    return run


def test_a_script_reads_the_package_and_writes_beside_it(script: Run, tmp_path: Path) -> None:
    said = script("cat train.sh | head -c 3; mkdir ../pack-model; echo hi > ../pack-model/a; pwd; echo $HOME")
    assert said == ["cat/sandbox/pack", "/sandbox"]
    assert (tmp_path / "out/pack-model/a").read_text() == "hi\n"
    assert sorted(item.name for item in (tmp_path / "out").iterdir()) == ["pack-model"]


def test_python_and_pantry_are_there(script: Run) -> None:
    assert script("import pantry, numpy\nprint('both')", name="train.py") == ["both"]
    assert script("pantry --version")[0].startswith("pantry")


def test_the_package_and_the_system_are_read_only(script: Run, tmp_path: Path) -> None:
    places = ["/sandbox/pack/x", "/usr/x", "/x", "/dev/x", "/etc/x"]
    for place in places:
        with pytest.raises(TrainingError, match="ended with"):
            script(f"set -e\ntouch {place}")
    assert [item.name for item in (tmp_path / "pack").iterdir()] == ["train.sh"]


def test_no_home_and_no_secret_is_seen(script: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "person"
    (home / ".ssh").mkdir(parents=True)
    (home / ".ssh" / "id_ed25519").write_text("TOPSECRET")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PANTRY_PASSPHRASE", "TOPSECRET")
    lines = [
        f"cat {home}/.ssh/id_ed25519; ls /root /home /var {tmp_path}; cat /etc/passwd /etc/shadow",
        "env; cat /proc/1/environ /proc/self/environ | tr '\\0' '\\n'; ls /proc | grep -c '^[0-9]'; exit 0",
    ]
    said = "\n".join(script("\n".join(lines)))
    assert "TOPSECRET" not in said
    assert "PASSPHRASE" not in said
    assert "root:x" not in said
    assert "No such file" in said
    assert int(said.splitlines()[-1]) < 12


def test_there_is_no_network_unless_granted(script: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        connect = f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 5)\nprint('connected')"
        with pytest.raises(TrainingError):
            script(connect, name="train.py")
        assert script(connect, Limits(60, 2 << 30, network=True), "train.py") == ["connected"]


def test_a_socket_of_the_host_is_not_reached_by_its_abstract_name(script: Run) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("\0pantry-test-socket")
        server.listen()
        with pytest.raises(TrainingError):
            script("import socket\nsocket.socket(socket.AF_UNIX).connect('\\0pantry-test-socket')", name="train.py")


def test_what_it_starts_in_the_background_ends_with_it(script: Run, tmp_path: Path) -> None:
    began = time.monotonic()
    script("(setsid sh -c 'while :; do date > ../alive; sleep 0.05; done' > /dev/null 2>&1 &)\nsleep 0.5")
    assert time.monotonic() - began < 30
    alive = tmp_path / "out" / "alive"
    before = alive.stat().st_mtime_ns
    time.sleep(0.4)
    assert alive.stat().st_mtime_ns == before
    assert not [p for p in psutil.Process().children(recursive=True) if p.name() in ("bwrap", "sh", "sleep")]


def test_time_is_up_for_one_that_does_not_end(script: Run) -> None:
    with pytest.raises(TrainingError, match="stopped after 1"):
        script("trap '' TERM INT HUP; while :; do sleep 1; done", Limits(1, 2 << 30))


@pytest.mark.parametrize(
    "hog",
    ["x = bytearray(1 << 29)", "import os\nos.fork()\nos.fork()\nx = bytearray(1 << 27)"],
    ids=["one process", "several"],
)
def test_memory_is_bounded_over_all_processes(script: Run, hog: str) -> None:
    with pytest.raises(MemoryBudgetError, match="of memory"):
        script(f"import time\n{hog}\ntime.sleep(30)", Limits(40, 300 << 20), "train.py")


def test_links_it_leaves_are_deleted_and_named(script: Run, tmp_path: Path) -> None:
    package, said = tmp_path / "pack", []
    script("true")
    (package / "train.sh").write_text(
        "cd ..; mkdir d; ln -s /etc/passwd stolen; ln -s / d/all; mkfifo pipe; echo x > kept; chmod 4755 kept"
    )
    removed = run_script(package, "train.sh", tmp_path / "out", PLENTY, said.append)
    assert sorted(removed) == ["d/all", "pipe", "stolen"]
    assert list((tmp_path / "out/d").iterdir()) == []
    assert (tmp_path / "out" / "kept").stat().st_mode & 0o7000 == 0


def test_a_link_planted_for_the_next_run_leads_nowhere(script: Run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "out" / "pack").symlink_to(tmp_path / "other")
    with pytest.raises(UsageError, match="is a link"):
        script("echo x > ../x")
    (tmp_path / "out" / "pack").unlink()
    (tmp_path / "out" / "x").symlink_to(tmp_path / "other" / "x")
    with pytest.raises(TrainingError):
        script("set -e\necho x > ../x")
    assert list((tmp_path / "other").iterdir()) == []


def test_what_it_prints_cannot_command_the_terminal(script: Run) -> None:
    assert script(r"printf '\033]0;title\007 \033[2J\n'") == [" ]0;title   [2J"]
    assert len(script("head -c 5000 /dev/zero | tr '\\0' 'x'")) == 3


def test_further_user_namespaces_are_not_given(script: Run) -> None:
    with pytest.raises(TrainingError):
        script("unshare --user --map-root-user true")


def test_a_failing_script_is_told_with_its_code(script: Run) -> None:
    with pytest.raises(TrainingError, match=r"train\.sh ended with 7"):
        script("exit 7")


def test_without_bubblewrap_it_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="bubblewrap is not installed"):
        require_sandbox()


def test_a_bubblewrap_that_may_not_is_refused_with_what_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    with pytest.raises(UsageError, match="does not let bubblewrap make one: bwrap: No permissions") as caught:
        require_sandbox()
    assert "user namespaces" in str(caught.value.hint)
