"""The README's examples, run as they stand."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.service.running import free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", README, re.DOTALL)


@pytest.mark.slow
def test_commands_and_program_of_the_readme_run(tmp_path: Path) -> None:
    consoles = [re.findall(r"^\$ (.*)$", block, re.MULTILINE) for block in blocks("console")]
    (program,) = blocks("python")
    (tmp_path / "program.py").write_text(program)
    first, *others = consoles
    script = [
        "set -eu -o pipefail",
        *first,
        f"{sys.executable} program.py",
        *(line for block in others for line in block),
    ]
    environment = {
        **os.environ,
        "PANTRY_HOME": str(tmp_path / "home"),
        "PANTRY_PORT": str(free_port()),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flatpack" in done.stdout.lower()
    assert "Tuesday" in done.stdout
    assert "Pantry has stopped." in done.stdout
