"""A repository on a web server: static files, TUF metadata, flatpacks fetched by ranges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

from tuf.api.exceptions import DownloadError as TufDownloadError
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from pantry.repository._http import Interrupted, open_response
from pantry.repository._tuf import refresh, target_path
from pantry.repository.address import Address
from pantry.repository.entry import Snapshot, Target
from pantry.repository.fetch import Fetcher, Tries
from pantry.repository.limits import Limits
from pantry.repository.source import Place

_ATTEMPTS = 3  # tries for a file of metadata, which somebody waits for


class HttpReader(FetcherInterface):
    """Reads metadata files for python-tuf, which bounds their length; passing faults are tried again."""

    def __init__(self, limits: Limits) -> None:
        self._limits = replace(limits, attempts=min(limits.attempts, _ATTEMPTS))

    def _fetch(self, url: str) -> Iterator[bytes]:
        address, tries = Address.parse(url), Tries(self._limits)
        while True:
            try:
                response = open_response(address, {}, self._limits)
                break
            except Interrupted as fault:
                tries.failed(fault, address, threading.Event())
        if response.status != 200:
            response.close()
            raise DownloadHTTPError(f"{address.shown} answered {response.status}", response.status)

        def pieces() -> Iterator[bytes]:
            left = response.length
            with response:
                try:
                    while data := response.read():
                        left = left - len(data) if left is not None else None
                        yield data
                except Interrupted as fault:
                    raise TufDownloadError(f"{address.shown}: {fault}") from fault
                if left:
                    raise TufDownloadError(f"{address.shown}: the connection ended {left} bytes early")

        return pieces()


class HttpRepository:
    """The repository below an http or https address."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._base = f"{Address.parse(place.url.rstrip('/') + '/')}"

    def snapshot(self, fetcher: Fetcher) -> Snapshot:
        return refresh(self._place, self._base, HttpReader(fetcher.limits), None)

    def where(self, target: Target) -> Address:
        return Address.parse(f"{self._base}targets/{target_path(target)}")


KIND = HttpRepository
