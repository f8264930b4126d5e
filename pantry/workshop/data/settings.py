"""How documents are read, cleaned and split: the settings that any user of the data shares."""

from __future__ import annotations

from dataclasses import dataclass

SCRUBBED = ("emails", "keys", "phones")
"""The kinds of text that can be blanked out."""


@dataclass(frozen=True)
class DataSettings:
    """What is read of the data, what stays of it, and the share held out. Lengths are in characters of a document.

    Raises ValueError for settings that contradict each other, or name a kind that cannot be blanked out.
    """

    text_field: str = "text"
    dataset: str = ""
    """A Hugging Face dataset, `owner/name`, or `./folder` beside the files; empty for none."""
    dataset_config: str = ""
    dataset_split: str = "train"
    dataset_revision: str = ""
    deduplicate: bool = True
    near_duplicates: bool = False
    near_threshold: float = 0.8
    scrub: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    """Codes of the languages to keep; empty for all."""
    min_characters: int = 1
    max_characters: int | None = None
    validation: float = 0.05

    def __post_init__(self) -> None:
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(f"max_characters = {self.max_characters} is below min_characters = {self.min_characters}")
        if wrong := [kind for kind in self.scrub if kind not in SCRUBBED]:
            raise ValueError(f"scrub cannot blank out {wrong[0]!r}; known: {', '.join(SCRUBBED)}")
