"""The frame of the command line, without a service."""

import subprocess
import sys

PANTRY = [sys.executable, "-W", "error", "-m", "pantry"]


def test_version_and_help_say_what_it_is() -> None:
    for option in ("--version", "-V"):
        done = subprocess.run([*PANTRY, option], capture_output=True, text=True)
        assert (done.returncode, done.stdout.split()[0]) == (0, "pantry")
    done = subprocess.run([*PANTRY, "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "pantry run starter" in done.stdout


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
