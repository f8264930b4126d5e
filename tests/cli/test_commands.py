"""The command line as a user types it: real processes, a real service, the echo engine behind it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gguf_files import GGUFBuilder, value
from tests.processes import run_pantry
from tests.service.running import Service, starting, wait_until

pytestmark = pytest.mark.slow
PANTRY = [sys.executable, "-W", "error", "-m", "pantry"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("cli") / "home")
    service.add_echo("echo", context=20)
    service.add_echo("slow", delay=0.05, repeat=100)
    service.add_echo("liar", reply='{"name": 7}')
    with starting(service):
        yield service


def run(service: Service, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return run_pantry(*words, env=service.environment, stdin=stdin)


def test_run_prints_the_answer_and_nothing_else(service: Service) -> None:
    done = run(service, "run", "echo", "hello", "there")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hello there\n", "")


def test_run_reads_the_prompt_from_standard_input(service: Service) -> None:
    assert run(service, "run", "echo", stdin="from a pipe").stdout == "from a pipe\n"


def test_run_joins_prompt_and_standard_input(service: Service) -> None:
    assert run(service, "run", "echo", "Summarise:", stdin="a text").stdout == "Summarise: a text\n"


def test_run_without_a_prompt_says_how_to_give_one(service: Service) -> None:
    done = run(service, "run", "echo")
    assert done.returncode == 2
    assert 'pantry run starter "Hello"' in done.stderr


def test_run_json_has_text_and_figures(service: Service) -> None:
    answer = json.loads(run(service, "run", "echo", "a b c", "--json", "--max-tokens", "2").stdout)
    assert answer["text"] == "a b"
    assert (answer["prompt_tokens"], answer["completion_tokens"], answer["finish_reason"]) == (3, 2, "length")


def test_run_of_an_unknown_model_exits_3_with_the_nearest_name(service: Service) -> None:
    done = run(service, "run", "ecko", "hi")
    assert done.returncode == 3
    assert "Did you mean 'echo'?" in done.stderr


def test_run_with_too_long_a_prompt_exits_2_and_says_by_how_much(service: Service) -> None:
    done = run(service, "run", "echo", "w " * 30)
    assert done.returncode == 2
    assert "10 too many" in done.stderr


def test_run_with_a_schema_that_the_answer_breaks_is_an_error(service: Service, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"name": {"type": "string"}}}')
    done = run(service, "run", "liar", "x", "--json-schema", str(schema))
    assert done.returncode == 13
    assert "breaks the JSON schema" in done.stderr


@pytest.mark.parametrize("content", ["not json", "[1]", ""])
def test_run_with_a_file_that_is_no_schema_exits_2(service: Service, tmp_path: Path, content: str) -> None:
    file = tmp_path / "schema.json"
    file.write_text(content)
    done = run(service, "run", "echo", "x", "--json-schema", str(file))
    assert done.returncode == 2
    assert "schema.json" in done.stderr


def test_ctrl_c_stops_the_generation_in_the_worker_and_exits_130(service: Service) -> None:
    process = subprocess.Popen(
        [*PANTRY, "run", "slow", "one two"],
        env=service.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell starts what it runs in the background with SIGINT ignored, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: service.worker_is_busy("slow"))
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert wait_until(lambda: not service.worker_is_busy("slow")) < 1


def test_closed_pipe_is_no_error(service: Service) -> None:
    command = f"{' '.join(PANTRY)} run slow 'one two' | head -c 3"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], env=service.environment, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "one"
    assert "Traceback" not in done.stderr


def test_chat_keeps_history_and_obeys_commands(service: Service, tmp_path: Path) -> None:
    saved = tmp_path / "talk.json"
    typed = f'first turn\n"""two\nlines"""\n/undo\n/save {saved}\n/hlep\n/clear\n/exit\nnever said\n'
    done = run(service, "chat", "echo", stdin=typed)
    assert done.returncode == 0
    assert done.stdout == "first turn\ntwo lines\n"
    assert "tokens read" in done.stderr
    assert "Did you mean '/help'?" in done.stderr
    messages = json.loads(saved.read_text())["messages"]
    assert [m["content"] for m in messages] == ["first turn", "first turn"]


def test_chat_goes_on_after_a_turn_that_is_too_long(service: Service) -> None:
    done = run(service, "chat", "echo", stdin=f"{'w ' * 30}\nshort\n")
    assert done.returncode == 0
    assert done.stdout == "short\n"
    assert "10 too many" in done.stderr


def test_add_list_show_path_rm(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "My Model (v2).gguf"
    file.write_bytes(GGUFBuilder().build())
    done = run(service, "add", str(file))
    assert done.returncode == 0
    assert done.stdout.startswith("Added my-model-v2 (")
    assert "my-model-v2" in run(service, "list").stdout
    facts = json.loads(run(service, "show", "my-model-v2", "--json").stdout)
    assert (facts["architecture"], facts["context"], facts["title"]) == ("llama", 512, "Tiny")
    path = Path(run(service, "path", "my-model-v2").stdout.strip())
    assert path.read_bytes() == file.read_bytes()
    assert run(service, "rm", "my-model-v2").returncode == 0
    assert not path.exists()
    assert run(service, "show", "my-model-v2").returncode == 3


def test_add_again_under_a_taken_name_is_a_conflict(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "echo.gguf"
    file.write_bytes(GGUFBuilder().build())
    done = run(service, "add", str(file))
    assert done.returncode == 6
    assert "--name" in done.stderr


_CHANGED = GGUFBuilder().metadata
BAD_FILES = {
    "cut short": GGUFBuilder().build()[:-50],
    "text": b"This is not a model at all.",
    "offset past the end": GGUFBuilder(tensors=[("a", [64], 0, 10**9)]).build(),
    "no tensors": GGUFBuilder(tensors=[]).build(),
    "more blocks than tensors": GGUFBuilder(metadata=_CHANGED | {"llama.block_count": value(4, 2**30)}).build(),
    "no context": GGUFBuilder(metadata=_CHANGED | {"llama.context_length": value(4, 0)}).build(),
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_bad_model_file_is_refused_and_leaves_nothing(service: Service, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.gguf"
    file.write_bytes(content)
    before = sorted(service.paths.blobs.rglob("*"))
    done = run(service, "add", str(file))
    assert done.returncode == 8
    assert "Traceback" not in done.stderr
    assert sorted(service.paths.blobs.rglob("*")) == before


def test_missing_and_unreadable_files_are_named(service: Service, tmp_path: Path) -> None:
    done = run(service, "add", str(tmp_path / "none.gguf"))
    assert done.returncode == 12
    assert "does not exist" in done.stderr
    folder = run(service, "add", str(tmp_path))
    assert (folder.returncode, "safetensors files beside a config.json" in folder.stderr) == (8, True)


@pytest.mark.skipif(os.getuid() != 0, reason="mounting needs root; CI runs as root")
def test_disk_that_fills_while_adding_keeps_nothing(tmp_path: Path) -> None:
    home, file = tmp_path / "home", tmp_path / "big.gguf"
    home.mkdir()
    builder = GGUFBuilder(tensors=[("a", [900_000], 0, 0), ("b", [100_000], 0, 3_600_000)], data=bytes(4_000_000))
    file.write_bytes(builder.build())
    script = (
        f"mount -t tmpfs -o size=2m none {home} && {' '.join(PANTRY)} add {file}; echo exit $?; "
        f"find {home}/data/blobs -type f"
    )
    # The check of free space would refuse first; without it the write itself must fail cleanly.
    for code in ("", "import pantry.store.blobs as b; b.Blobs._check_space = lambda self, size: None; "):
        command = f"{sys.executable} -c \"{code}import sys; sys.argv = ['pantry', 'add', '{file}'];"
        command += ' from pantry.cli import main; main()"'
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", script.replace(f"{' '.join(PANTRY)} add {file}", command)],
            env={**os.environ, "PANTRY_HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout == "exit 12\n", done
        assert "Traceback" not in done.stderr


def test_ps_status_load_unload(service: Service) -> None:
    assert run(service, "load", "echo", "--pin").returncode == 0
    assert "pinned" in run(service, "ps").stdout
    assert json.loads(run(service, "ps", "--json").stdout)
    assert f":{service.port}" in run(service, "status").stdout
    assert run(service, "unload", "echo").stdout == "echo is unloaded.\n"
    assert run(service, "unload", "echo").stdout == "echo was not loaded.\n"


def test_env_works_in_a_shell(service: Service) -> None:
    command = f'eval "$({" ".join(PANTRY)} env --shell sh)"; echo $OPENAI_BASE_URL $OPENAI_API_KEY'
    done = subprocess.run(["sh", "-c", command], env=service.environment, capture_output=True, text=True, timeout=30)
    assert done.stdout.split() == [f"http://127.0.0.1:{service.port}/v1", service.key]
    assert "set -gx OPENAI_API_KEY" in run(service, "env", "--shell", "fish").stdout
    assert run(service, "env", "--shell", "fisch").returncode == 2


def test_commands_without_a_service_say_how_to_start_one(tmp_path: Path) -> None:
    service = Service(tmp_path / "home")
    for words in (["ps"], ["env"], ["status"], ["unload", "x"]):
        done = run(service, *words)
        assert done.returncode == 14, words
        assert "pantry up --detach" in done.stderr
    assert json.loads(run(service, "status", "--json").stdout) == {"running": False}
    assert run(service, "down").stdout == "Pantry was not running.\n"


def test_run_starts_a_service_that_down_stops(tmp_path: Path) -> None:
    service = Service(tmp_path / "home")
    service.add_echo()
    done = run(service, "run", "echo", "hello")
    assert (done.returncode, done.stdout) == (0, "hello\n")
    assert run(service, "down").stdout == "Pantry has stopped.\n"


def test_doctor_without_measuring_lists_what_it_found(service: Service) -> None:
    found = json.loads(run(service, "doctor", "--no-measure", "--json").stdout)
    assert {"processor", "memory", "disk", "service", "engine llama_cpp"} <= {finding["name"] for finding in found}


def test_schema_cut_by_max_tokens_is_an_error(service: Service, tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    done = run(service, "run", "echo", "a b c", "--json-schema", str(schema), "--max-tokens", "1")
    assert done.returncode == 13
    assert "--max-tokens" in done.stderr


def test_late_input_in_a_pipe_is_waited_for(service: Service) -> None:
    command = f"(sleep 0.7; echo text) | {' '.join(PANTRY)} run echo Summarise:"
    done = subprocess.run(["bash", "-c", command], env=service.environment, capture_output=True, text=True, timeout=30)
    assert done.stdout == "Summarise: text\n"


@pytest.mark.parametrize("redirect", [">&-", "> /dev/full", "<&-", "2>&-"])
def test_closed_or_full_streams_give_no_traceback(service: Service, redirect: str) -> None:
    for words in ("run echo hello", "chat echo", "list", "lst"):
        command = f"{' '.join(PANTRY)} {words} {redirect}"
        done = subprocess.run(
            ["bash", "-c", command], env=service.environment, capture_output=True, text=True, input="", timeout=30
        )
        assert "Traceback" not in done.stderr
        assert "fault in Pantry" not in done.stderr, (words, done.stderr)


def test_prompt_that_is_no_text_is_refused(service: Service) -> None:
    command = f"printf '\\xff\\xfe' | {' '.join(PANTRY)} run echo"
    done = subprocess.run(["bash", "-c", command], env=service.environment, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    assert "UTF-8" in done.stderr


def test_relative_home_is_the_same_for_command_and_service(tmp_path: Path) -> None:
    environment = {**Service(tmp_path).environment, "PANTRY_HOME": "home", "PANTRY_PORT": "17490"}
    ask = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True, "timeout": 60}
    assert subprocess.run([*PANTRY, "up", "--detach"], **ask).returncode == 0  # type: ignore[call-overload]
    assert subprocess.run([*PANTRY, "down"], **ask).stdout == "Pantry has stopped.\n"  # type: ignore[call-overload]
    assert (tmp_path / "home" / "data" / "pantry.db").exists()


def test_folder_with_a_module_of_the_same_name_is_not_run(tmp_path: Path) -> None:
    service = Service(tmp_path / "home")
    evil = tmp_path / "evil"
    evil.mkdir()
    for name in ("xllamacpp", "aiohttp", "json"):
        (evil / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    script = [sys.executable, "-P", "-m", "pantry"]
    ask = {"env": service.environment, "cwd": evil, "capture_output": True, "text": True, "timeout": 60}
    try:
        done = subprocess.run([*script, "run", "starter", "hello"], **ask)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
    finally:
        subprocess.run([*script, "down"], **ask)  # type: ignore[call-overload]
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become another user; CI runs as root")
def test_socket_folder_of_another_user_is_not_trusted(tmp_path: Path) -> None:
    service = Service(tmp_path / ("home" * 30))  # so long that sockets go to the shared temporary folder
    folder = service.paths.run
    assert folder.parent == Path("/tmp")
    folder.mkdir(mode=0o755)
    try:
        os.chown(folder, 65534, 65534)
        for words in (["run", "starter", "my secret"], ["env"], ["status"], ["up", "--detach"]):
            done = run(service, *words)
            assert done.returncode == 4, (words, done)
            assert "another user" in done.stderr
    finally:
        folder.rmdir()


def test_service_is_found_and_stopped_without_its_file(tmp_path: Path) -> None:
    service = Service(tmp_path / "home")
    service.start()
    service.paths.service_file.unlink()
    assert run(service, "status").returncode == 0
    assert run(service, "up", "--detach").stdout.startswith("Pantry runs already")
    assert run(service, "down").stdout == "Pantry has stopped.\n"
    service.stop()


def test_control_characters_of_a_model_file_do_not_reach_the_terminal(service: Service, tmp_path: Path) -> None:
    builder = GGUFBuilder()
    builder.metadata["general.license"] = value(8, "\x1b]0;pwned\x07\x1b[2Jmit\nfake row")
    file = tmp_path / "escape.gguf"
    file.write_bytes(builder.build())
    assert run(service, "add", str(file)).returncode == 0
    shown = run(service, "list").stdout + run(service, "show", "escape").stdout
    assert "mit" in shown
    assert not set(shown) & {"\x1b", "\x07"}
    assert "\nfake row" not in shown
