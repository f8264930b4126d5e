"""The documents of some files and a dataset as one whole: found, read, cleaned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pantry.workshop.data.cleaning import Cleaned, clean
from pantry.workshop.data.documents import Document
from pantry.workshop.data.hub_dataset import HubDataset, pin_dataset
from pantry.workshop.data.settings import DataSettings
from pantry.workshop.data.sources import DataFile, DocumentSource, data_digest, find_files, read_documents


@dataclass(frozen=True)
class Corpus:
    """Files and at most one dataset, at the content they had when they were found. Nothing of them is in memory."""

    settings: DataSettings
    files: tuple[DataFile, ...]
    dataset: HubDataset | None = None

    @property
    def sources(self) -> tuple[DocumentSource, ...]:
        """The files in order of name, then the dataset."""
        return (*self.files, self.dataset) if self.dataset else self.files

    @property
    def digest(self) -> str:
        """Over the content of everything in it, as `sha256:<hex>`."""
        return data_digest(self.sources)

    def documents(self, found: Cleaned | None = None) -> Iterator[Document]:
        """What stays after the cleaning, in order; `found` counts on the way. Raises BadFileError with the place."""
        raw = read_documents(self.sources, self.settings.text_field)
        return clean(raw, self.settings, Cleaned() if found is None else found)


def find_corpus(
    folder: Path,
    names: Sequence[str],
    settings: DataSettings,
    room: Path,
    *,
    offline: bool = False,
    renew: bool = False,
) -> Corpus:
    """The corpus of the files and folders `names` in `folder`, and of the dataset that the settings name.

    What a dataset needs is kept in `room`; `offline` looks up none on the hub, `renew` looks it up again. Raises
    NotFoundError and BadFileError for files that are not there or not readable, and as `pin_dataset`.
    """
    pinned = pin_dataset(settings, folder, room, offline=offline, renew=renew)
    files = find_files(folder, names, required=pinned is None)
    return Corpus(settings, tuple(files), HubDataset(pinned, folder, room) if pinned else None)
