"""A repository in a folder of this machine or of a mounted share: the same TUF metadata, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from pantry.core.errors import NotFoundError
from pantry.repository._tuf import refresh, target_path
from pantry.repository.entry import Snapshot, Target
from pantry.repository.fetch import Fetcher
from pantry.repository.source import Place


class FolderReader(FetcherInterface):
    """Reads metadata files of a folder for python-tuf. Addresses are paths below it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        file = self._folder / "metadata" / unquote(url.rpartition("/")[2])
        if not file.is_file():
            raise DownloadHTTPError(f"there is no {file}", 404)
        return self._pieces(file)

    @staticmethod
    def _pieces(file: Path) -> Iterator[bytes]:
        with file.open("rb") as opened:
            while data := opened.read(1 << 16):
                yield data


class DirectoryRepository:
    """The repository in a folder."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._folder = Path(place.url)

    def snapshot(self, fetcher: Fetcher) -> Snapshot:
        if not self._folder.is_dir():
            raise NotFoundError(
                f"The folder {self._folder} of the repository {self._place.name!r} is not there.",
                hint="The address of a server begins with https:// or http://.",
            )
        return refresh(self._place, "folder:/", FolderReader(self._folder), None)

    def where(self, target: Target) -> Path:
        return self._folder / "targets" / unquote(target_path(target))


KIND = DirectoryRepository
