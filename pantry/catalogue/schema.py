"""The shape of every catalogue entry. A fact without a source, or of a wrong type, does not get in.

A file under `data/` (or in an overlay folder) is TOML with one array of tables per kind of entry: `[[model]]`,
`[[licence]]`, `[[dataset]]` and so on. `[family]` at the top of a file gives its models their family and maker.
"""

from __future__ import annotations

from pantry.catalogue._base import Entry, Source
from pantry.catalogue._licences import Condition, Licence, Use, Verdict
from pantry.catalogue._models import (
    Correction,
    Dataset,
    Family,
    Leaderboard,
    Mention,
    Metric,
    ModelEntry,
    Shape,
    TagRule,
)
from pantry.catalogue._tools import (
    Accelerator,
    DesktopApp,
    Engine,
    FileFormat,
    HardwareApi,
    Sdk,
    TuningMethod,
    TuningNeed,
    VectorStore,
)

__all__ = [
    "KINDS",
    "Condition",
    "Dataset",
    "Entry",
    "Family",
    "Licence",
    "ModelEntry",
    "Shape",
    "Source",
    "TagRule",
    "Use",
    "Verdict",
]

KINDS: dict[str, type[Entry] | type[Source]] = {
    "source": Source,
    "model": ModelEntry,
    "licence": Licence,
    "dataset": Dataset,
    "leaderboard": Leaderboard,
    "metric": Metric,
    "engine": Engine,
    "format": FileFormat,
    "vector-store": VectorStore,
    "sdk": Sdk,
    "desktop-app": DesktopApp,
    "tuning-method": TuningMethod,
    "tuning-need": TuningNeed,
    "accelerator": Accelerator,
    "hardware-api": HardwareApi,
    "tag": TagRule,
    "correction": Correction,
    "mention": Mention,
}
"""Every kind of entry, by the name of its array of tables. A family is the head of a file, not a kind."""
