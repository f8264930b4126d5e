"""What was skipped is said at the end, with the command that brings what is missing; CI fails on a skip it did not
expect (`--fail-on-unexpected-skips`; tests/expected_skips.txt).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

EXPECTED = Path(__file__).with_name("expected_skips.txt")
TOOLS = "make test-tools"
"""The command that installs programs some tests need; the reasons of their skips name it."""
OPTION = "--fail-on-unexpected-skips"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(OPTION, action="store_true", help=f"Fail when a test is skipped that {EXPECTED.name} lacks.")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption(OPTION) and _unexpected(_skipped(session.config)) and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    skipped = _skipped(config)
    if not skipped:
        return
    terminalreporter.section("not run here")
    groups = Counter((node.partition("::")[0], reason) for node, reason in skipped)
    for (file, reason), count in sorted(groups.items()):
        terminalreporter.line(f"{count:4} of {file}: {reason}")
    if any(TOOLS in reason for _, reason in skipped):
        terminalreporter.line(f"A browser, its driver and a sandbox come with: {TOOLS}", yellow=True)
    if config.getoption(OPTION):
        for node in _unexpected(skipped):
            terminalreporter.line(f"Not expected to be skipped (tests/{EXPECTED.name}): {node}", red=True)


def _skipped(config: pytest.Config) -> list[tuple[str, str]]:
    """The skipped tests, or files, with the reason of each. Expected failures are not among them."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:  # a worker of xdist, whose reports go to the main process
        return []
    found = []
    for report in reporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        found.append((report.nodeid, reason.removeprefix("Skipped: ")))
    return found


def _unexpected(skipped: list[tuple[str, str]]) -> list[str]:
    lines = [line.partition("  ") for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#")]
    expected = tuple(node for node, _, _ in lines)
    return [node for node, _ in skipped if node.partition("[")[0] not in expected]
