"""What a look into a file found, in the words the policy decides by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["note", "warning", "refused", "unknown"]
_ORDER: dict[Level, int] = {"note": 0, "warning": 1, "unknown": 2, "refused": 3}


@dataclass(frozen=True)
class SafetyFinding:
    """One thing found: `where` is a tensor, a member of an archive, or a line of a template."""

    level: Level
    what: str
    where: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


@dataclass(frozen=True)
class FormatVerdict:
    """The findings about one file. `level` is the worst of them; a clean file has the level `note`."""

    format: str
    findings: tuple[SafetyFinding, ...] = ()

    @property
    def level(self) -> Level:
        return max((finding.level for finding in self.findings), key=lambda level: _ORDER[level], default="note")

    @property
    def safe(self) -> bool:
        """Nothing was found that refuses the file, and it was understood."""
        return self.level in ("note", "warning")
