"""What is refused whatever the policy says: a file that hides code."""

from __future__ import annotations

from pathlib import Path

from pantry.core.errors import PolicyRefusedError
from pantry.formats.safety import scan


def check_format(file: Path, shown: str, hint: str = "Nothing was installed.", *, path: str | None = None) -> None:
    """Raises PolicyRefusedError for a file that hides code; no mode of the policy allows that.

    `path` is what the file is called in its package, where that is not its name on disk: the scan goes by it too.
    """
    verdict = scan(file, path)
    if verdict.level == "refused":
        reasons = "; ".join(str(finding) for finding in verdict.findings if finding.level == "refused")
        raise PolicyRefusedError(f"{shown} is refused: {reasons}.", hint=hint)
