"""Skips are told at the end, and an unexpected one fails the run that asks for it."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULE = """
import pytest
from tests.skips import *

@pytest.mark.parametrize("n", [1, 2])
def test_pages(n): pytest.skip("no browser: make test-tools")
def test_known(): pytest.skip("as expected")
def test_sound(): pass
"""


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    hooks = "from tests import skips\nfrom tests.skips import *\n"
    (folder / "conftest.py").write_text(f"{hooks}from pathlib import Path\nskips.EXPECTED = Path('expected.txt')\n")
    (folder / "test_here.py").write_text(MODULE)
    (folder / "expected.txt").write_text("# node and reason\ntest_here.py::test_known  a reason\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "test_here.py"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_skips_are_told_with_the_command_that_ends_them(tmp_path: Path, workers: list[str]) -> None:
    done = run(tmp_path, *workers)
    assert done.returncode == 0, done.stdout
    assert "2 of test_here.py: no browser: make test-tools" in done.stdout
    assert "come with: make test-tools" in done.stdout


@pytest.mark.parametrize("workers", [[], ["-n", "1"]], ids=["one process", "xdist"])
def test_unexpected_skip_fails_the_run_that_asks_for_it(tmp_path: Path, workers: list[str]) -> None:
    done = run(tmp_path, "--fail-on-unexpected-skips", *workers)
    assert done.returncode == 1, done.stdout
    assert "Not expected to be skipped (tests/expected.txt): test_here.py::test_pages[1]" in done.stdout
    assert "): test_here.py::test_known" not in done.stdout


def test_expected_skips_are_tests_that_exist() -> None:
    for line in (ROOT / "tests" / "expected_skips.txt").read_text().splitlines():
        if not line.startswith("#"):
            node, _, reason = line.partition("  ")
            file, _, test = node.partition("::")
            assert f"def {test.rpartition('::')[2]}(" in (ROOT / file).read_text(), node
            assert reason
