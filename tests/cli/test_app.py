"""The frame of the command line, without a service."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from pantry.cli._app import app_for, build_app
from pantry.cli._overview import read_overview

PANTRY = [sys.executable, "-W", "error", "-m", "pantry"]


def test_version_and_help_say_what_it_is() -> None:
    for options in (["--version"], ["-V"], ["-V", "list"], ["--version", "-V"]):
        done = subprocess.run([*PANTRY, *options], capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()[0]) == (0, "pantry")
    done = subprocess.run([*PANTRY, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "pantry run starter" in done.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [("--version > /dev/full", 12), ("--help > /dev/full", 12), ("lst 2> /dev/full", 2), ("lst 2>&-", 2)],
)
def test_full_disk_under_the_output_is_told_by_the_exit_code(words: str, code: int) -> None:
    command = f"{' '.join(PANTRY)} {words}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr


def test_misspelt_command_names_the_nearest() -> None:
    done = subprocess.run([*PANTRY, "lst"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "list" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_no_engine_and_no_server() -> None:
    code = (
        "import sys\nfrom pantry.cli._app import run\nrun(['--help'])\n"
        "heavy = {'aiohttp', 'pydantic', 'xllamacpp', 'numpy', 'prometheus_client', 'jsonschema', 'psutil'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "HEAVY []" in done.stderr


@pytest.mark.parametrize("width", ["40", "80", "200"])
def test_overview_from_the_file_is_the_one_of_the_whole_tree(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    quick, whole = (
        CliRunner().invoke(app, ["--help"], prog_name="pantry") for app in (app_for(["--help"]), build_app())
    )
    assert quick.exit_code == 0
    assert quick.output == whole.output


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["run", "--help"], ["run"]), (["app", "--help"], ["apps"]), (["--help"], []), (["rnu"], [])],
)
def test_only_the_file_of_the_named_command_is_imported(words: list[str], expected: list[str]) -> None:
    code = (
        f"import sys\nfrom pantry.cli._app import run\nrun({words})\n"
        "names = [name.removeprefix('pantry.cli.') for name in sys.modules if name.startswith('pantry.cli.')]\n"
        "print('FILES', *sorted(name for name in names if not name.startswith('_')), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].split() == ["FILES", *expected]


def test_every_command_answers_by_its_name() -> None:
    for command in read_overview():
        result = CliRunner().invoke(app_for([command.name]), [command.name, "--help"], prog_name="pantry")
        assert (result.exit_code, command.name in result.output) == (0, True), command.name
