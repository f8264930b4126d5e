"""The life of the service: starting, stopping, being killed, being started twice, and clients that misbehave."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pantry.formats.memory import PROCESS
from tests.processes import run_pantry
from tests.service.running import Service, free_port, starting, wait_until

pytestmark = pytest.mark.slow
HELLO = [{"role": "user", "content": "one two three"}]


def ask(service: Service, model: str = "echo") -> int:
    return service.ask("POST", "/v1/chat/completions", {"model": model, "messages": HELLO})[0]


def run_up(service: Service, *options: str) -> subprocess.CompletedProcess[str]:
    return run_pantry("up", *options, env=service.environment, timeout=30)


def test_killed_service_leaves_no_workers_and_the_next_start_works(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo()
    service.start()
    assert ask(service) == 200
    workers = service.workers()
    assert workers
    os.kill(service.pid, signal.SIGKILL)
    service.stop()
    wait_until(lambda: not any(worker.is_running() for worker in workers), 3)
    with starting(service):
        assert ask(service) == 200


def test_service_killed_while_a_model_loads_leaves_no_worker(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo("hangs", load="hang")
    service.start()
    threading.Thread(target=lambda: _ask_quietly(service, "hangs"), daemon=True).start()
    wait_until(service.workers)
    workers = service.workers()
    os.kill(service.pid, signal.SIGKILL)
    service.stop()
    wait_until(lambda: not any(worker.is_running() for worker in workers), 3)


def _ask_quietly(service: Service, model: str) -> None:
    with contextlib.suppress(OSError):
        ask(service, model)


def test_leftover_worker_of_a_killed_service_is_ended_at_the_next_start(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo()
    service.paths.run.mkdir(parents=True, mode=0o700)
    socket_path = service.paths.run / "w-leftover.sock"
    command = [sys.executable, "-m", "pantry.engines.processes.echo"]
    model = home_folder / "echo.echo"
    left = subprocess.Popen([*command, str(model), "echo", str(socket_path), "50"], stdin=subprocess.PIPE)
    wait_until(socket_path.exists)
    with starting(service):
        assert left.wait(5) == -signal.SIGKILL
        assert not socket_path.exists()
    assert left.stdin
    left.stdin.close()


def test_second_start_says_where_the_first_runs(service: Service) -> None:
    done = run_up(service)
    assert done.returncode == 6
    assert f"runs already on port {service.port}" in done.stderr


def test_two_detached_starts_at_once_give_one_service(home_folder: Path) -> None:
    service = Service(home_folder)
    command = [sys.executable, "-m", "pantry", "up", "--detach", "--port", str(free_port())]
    both = [subprocess.Popen(command, env=service.environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        outputs = [process.communicate(timeout=40)[0] for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert len({output.split("process ")[1] for output in outputs}) == 1
    finally:
        done = subprocess.run(
            [sys.executable, "-m", "pantry", "down"], env=service.environment, capture_output=True, text=True
        )
    assert "stopped" in done.stdout


def test_taken_port_moves_to_the_next_one_up(home_folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = Service(home_folder)
        with starting(service, "--port", str(port)):
            assert port < service.port <= port + 15
            assert service.ask("GET", "/healthz")[0] == 200


def test_address_that_is_not_ours_is_a_clear_error(home_folder: Path) -> None:
    done = run_up(Service(home_folder), "--host", "192.0.2.1")
    assert done.returncode == 14
    assert "Cannot listen on 192.0.2.1" in done.stderr


def test_bad_setting_names_file_setting_and_value(home_folder: Path) -> None:
    service = Service(home_folder)
    service.paths.config.mkdir(parents=True)
    service.paths.config_file.write_text('port = "many"\n')
    done = run_up(service)
    assert done.returncode == 2
    assert "port" in done.stderr
    assert "many" in done.stderr
    service.paths.config_file.write_text("prot = 1\n")
    assert "Did you mean 'port'?" in run_up(service).stderr


def test_home_that_is_a_file_is_a_clear_error(home_folder: Path) -> None:
    home_folder.write_text("in the way")
    done = run_up(Service(home_folder))
    assert done.returncode == 12
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root; CI runs as root")
def test_read_only_home_is_a_clear_error(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = f"mount -t tmpfs -o ro none {home} && exec {sys.executable} -m pantry up"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], env=Service(home).environment, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 12, done
    assert "read-only" in done.stderr


def test_stale_service_file_of_another_process_is_not_believed(home_folder: Path) -> None:
    service = Service(home_folder)
    service.paths.run.mkdir(parents=True, mode=0o700)
    content = {"pid": os.getpid(), "host": "127.0.0.1", "port": 1, "socket": "x", "version": "0", "started_at": 5.0}
    service.paths.service_file.write_text(json.dumps(content))
    done = run_pantry("down", env=service.environment, timeout=30)
    assert "was not running" in done.stdout  # and this test's process lives


def test_client_that_does_not_read_is_let_go_and_frees_its_slot(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_WRITE_TIMEOUT": "0.5", "PANTRY_PARALLEL": "1"})
    service.add_echo("flood", repeat=1_000_000)
    with starting(service), socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", service.port))
        body = json.dumps({"model": "flood", "messages": HELLO, "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.key}\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: service.worker_is_busy("flood"))
        wait_until(lambda: not service.worker_is_busy("flood"), 10)


def test_worker_killed_by_hand_is_started_again_at_the_next_request(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo()
    with starting(service):
        assert ask(service) == 200
        (worker,) = service.workers()
        worker.kill()
        psutil.wait_procs([worker], 3)
        assert ask(service) == 200
        assert b"pantry_worker_crashes 1.0" in service.ask_raw("GET", "/metrics")[2]


def test_stop_during_an_answer_ends_service_and_worker(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo("slow", delay=0.1, repeat=1000)
    with starting(service):
        threading.Thread(target=lambda: _ask_quietly(service, "slow"), daemon=True).start()
        wait_until(lambda: service.worker_is_busy("slow"))
        start = time.monotonic()
        service.stop()
        assert time.monotonic() - start < 10


def test_idle_model_is_unloaded_after_the_keep_alive(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_KEEP_ALIVE": "0.3"})
    service.add_echo()
    with starting(service):
        assert ask(service) == 200
        wait_until(lambda: not service.workers(), 5)
        assert ask(service) == 200


def test_least_recently_used_model_makes_room_and_pinned_ones_stay(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_MEMORY_BUDGET": str(int(2.5 * PROCESS))})
    for name in ("one", "two", "three"):
        service.add_echo(name)
    with starting(service):
        service.ask("POST", "/admin/load", {"model": "one", "pin": True})
        assert [ask(service, name) for name in ("two", "three")] == [200, 200]
        _, answer = service.ask("GET", "/admin/loaded")
        assert [row["name"] for row in answer["loaded"]] == ["one", "three"]
        assert service.ask("POST", "/admin/unload", {"model": "one"})[1]["unloaded"]


def test_model_beyond_the_budget_is_refused_with_figures(home_folder: Path) -> None:
    service = Service(home_folder, {"PANTRY_MEMORY_BUDGET": "1000"})
    service.add_echo()
    with starting(service):
        status, answer = service.ask("POST", "/v1/chat/completions", {"model": "echo", "messages": HELLO})
        assert (status, answer["error"]["code"]) == (507, "not_enough_memory")
        assert "the budget is 1.0 kB" in answer["error"]["message"]


def test_load_goes_on_when_the_first_client_gives_up(home_folder: Path) -> None:
    service = Service(home_folder)
    service.add_echo()
    with starting(service):
        with socket.create_connection(("127.0.0.1", service.port)) as sock:
            body = json.dumps({"model": "echo", "messages": HELLO}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.key}\r\n"
            sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            time.sleep(0.02)
        wait_until(lambda: service.ask("GET", "/admin/loaded")[1]["loaded"])
