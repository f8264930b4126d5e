"""A Hugging Face dataset as a source of documents: pinned to one revision, read row by row, its card kept.

`dataset = "owner/name"` is looked up on the hub once; the commit it stood at is written to `dataset.json` in the
working folder and used from then on. `dataset = "./folder"` is a folder beside the data that `datasets` reads; its
revision is the digest of its files.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from pantry.core.errors import (
    BadFileError,
    DownloadError,
    MissingExtraError,
    NotFoundError,
    PantryError,
    StorageError,
    UsageError,
)
from pantry.core.files import storage_errors, write_atomically
from pantry.flatpack.folder import entries_of, list_files
from pantry.workshop.data.documents import CONVERSATION, Document, read_record
from pantry.workshop.data.settings import DataSettings

PIN = "dataset.json"
CACHE = "dataset-files"
CARD = "README.md"
_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class PinnedDataset:
    """A dataset at one revision: a commit of the hub, or `sha256:<hex>` of a folder. `card` is its README.md or ""."""

    id: str
    config: str
    split: str
    asked: str
    revision: str
    card: str

    @property
    def line(self) -> str:
        """What goes into the digest of the data."""
        return f"{self.revision} {self.id} {self.config} {self.split}\n"


def pin_dataset(
    settings: DataSettings, folder: Path, room: Path, *, offline: bool = False, renew: bool = False
) -> PinnedDataset | None:
    """The dataset that the settings name, at the revision of the first time (with `renew`: at that of now); or None.

    Raises MissingExtraError, UsageError (no such name; offline and never looked up), NotFoundError, DownloadError.
    """
    if not settings.dataset:
        return None
    if find_spec("datasets") is None:
        raise MissingExtraError("Reading a Hugging Face dataset", "datasets")
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # the hub hears what is asked for, and nothing else
    asked = (settings.dataset, settings.dataset_config, settings.dataset_split, settings.dataset_revision)
    if settings.dataset.startswith("./"):
        return _pin_folder(folder, *asked)
    if not _ID.fullmatch(settings.dataset):
        raise UsageError(
            f"dataset = {settings.dataset!r} is not a dataset.",
            hint="Write owner/name, or ./folder for one beside the data.",
        )
    earlier = _read_pin(room / PIN)
    if earlier and (earlier.id, earlier.config, earlier.split, earlier.asked) == asked and not renew:
        return earlier
    if offline:
        raise UsageError(
            f"Pantry is set to work offline, and {settings.dataset} was not looked up before.",
            hint="Unset PANTRY_OFFLINE, or offline in config.toml.",
        )
    pinned = _look_up(*asked, cache=room / CACHE)
    with storage_errors(f"Making {room}"):
        room.mkdir(parents=True, exist_ok=True)
    write_atomically(room / PIN, json.dumps(asdict(pinned), indent=1).encode())
    return pinned


@dataclass(frozen=True)
class HubDataset:
    """A pinned dataset as a source; `folder` is where `./` begins, and what is fetched goes into `room`."""

    pinned: PinnedDataset
    folder: Path
    room: Path

    @property
    def line(self) -> str:
        return self.pinned.line

    def documents(self, text_field: str) -> Iterator[Document]:
        """The documents of its rows: a conversation in `messages`, else the text in `text_field`; empty ones are none.

        Raises NotFoundError, DownloadError, BadFileError with the row, counted from 1.
        """
        pinned = self.pinned
        with _faults(pinned.id):
            import datasets

            datasets.disable_progress_bars()
            datasets.logging.set_verbosity_error()
            place, revision = pinned.id, pinned.revision or None
            if pinned.id.startswith("./"):
                place, revision = str(self.folder / pinned.id), None
            elif Path(pinned.id).exists():
                raise UsageError(
                    f"There is a file or folder {pinned.id} here, which `datasets` would take for the dataset.",
                    hint="Start from another folder.",
                )
            rows = datasets.load_dataset(
                place, pinned.config or None, split=pinned.split, revision=revision, cache_dir=str(self.room / CACHE)
            )
            column = _column(list(rows.column_names), pinned.id, text_field)
            for number, row in enumerate(rows.select_columns([column]), 1):
                if row[column] is not None:
                    yield from read_record(row, text_field, f"{pinned.id}, row {number}")


def _column(names: list[str], title: str, text_field: str) -> str:
    for name in (CONVERSATION, text_field):
        if name in names:
            return name
    raise BadFileError(
        f"{title} has no column {text_field!r}; it has {', '.join(map(repr, names))[:200]}.",
        hint='Name the column with the text in the settings: text_field = "..."',
    )


def _pin_folder(folder: Path, title: str, config: str, split: str, asked: str) -> PinnedDataset:
    place = folder / title
    if not place.resolve().is_relative_to(folder.resolve()) or place.resolve() == folder.resolve():
        raise UsageError(f"dataset = {title!r} is not a folder inside {folder}.")
    if asked:
        raise UsageError("dataset_revision is for datasets of the hub; a folder is as it is.")
    entries = entries_of(place, list_files(place))
    text = "".join(f"{entry.digest} {entry.path}\n" for entry in entries)
    card = place / CARD
    with storage_errors(f"Reading {card}"):
        content = card.read_text(errors="replace") if card.is_file() else ""
    return PinnedDataset(title, config, split, asked, f"sha256:{hashlib.sha256(text.encode()).hexdigest()}", content)


def _look_up(title: str, config: str, split: str, asked: str, *, cache: Path) -> PinnedDataset:
    from huggingface_hub import HfApi, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    with _faults(title):
        commit = HfApi().dataset_info(title, revision=asked or None).sha or ""
        if not _COMMIT.fullmatch(commit):
            raise DownloadError(f"The hub names no commit of {title}: {commit[:60]!r}.")
        try:
            file = hf_hub_download(title, CARD, repo_type="dataset", revision=commit, cache_dir=cache)
        except EntryNotFoundError:
            return PinnedDataset(title, config, split, asked, commit, "")
        return PinnedDataset(title, config, split, asked, commit, Path(file).read_text(errors="replace"))


def _read_pin(file: Path) -> PinnedDataset | None:
    try:
        return PinnedDataset(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def _faults(title: str) -> Iterator[None]:
    """Faults of the two libraries in our words."""
    try:
        yield
    except PantryError:
        raise
    except Exception as error:
        raise _in_our_words(title, error) from None


def _in_our_words(title: str, error: Exception) -> PantryError:
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    said = " ".join(str(cause).split())[:300]
    if isinstance(error, RevisionNotFoundError):
        return NotFoundError(f"{title} has no such revision.", hint="Check dataset_revision in the settings.")
    if isinstance(error, RepositoryNotFoundError | DatasetNotFoundError):
        return NotFoundError(
            f"There is no dataset {title}, or it is not open to you.",
            hint="Check the name; a gated dataset needs `hf auth login`.",
        )
    if isinstance(error, HfHubHTTPError | ConnectionError) or _is_of_network(cause):
        return DownloadError(f"{title} could not be fetched: {said}", hint="Check the network, and try again.")
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{title} could not be stored: {said}", hint="Free some space, and try again.")
    return BadFileError(f"{title} could not be read: {said}")


def _is_of_network(cause: BaseException) -> bool:
    return type(cause).__module__.partition(".")[0] in ("httpx", "httpcore", "socket", "ssl", "aiohttp")
