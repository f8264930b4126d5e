"""One download under way: connections that write chunks, a hasher behind them, tries and refusals."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from pantry.core.errors import DownloadError, NotFoundError, PantryError, UnauthorisedError
from pantry.core.progress import Progress
from pantry.core.refs import Digest
from pantry.core.units import format_bytes
from pantry.repository._http import Interrupted, Response, open_response
from pantry.repository._partial import CHUNK, Partial
from pantry.repository._plan import Plan
from pantry.repository.address import Address
from pantry.repository.limits import Bandwidth, Limits

_PARALLEL_FROM = 4 * CHUNK  # bytes still to come that are worth another connection
_PARALLEL_AFTER = 1.0  # seconds between two connections
_FAST = 100_000_000  # bytes a second from which on another connection does not pay (bench/pull.py)
_REWARD = 1 << 20  # bytes that count as getting on, so that the tries begin anew
_SAVE_EVERY = 0.5  # seconds between two journals
RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


@dataclass(frozen=True)
class DownloadTarget:
    """A file to fetch. `length` is in bytes; None, and no digest, where only the server can tell."""

    url: Address
    length: int | None = None
    digest: Digest | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """The name of its partial file: by content where that is known, so that mirrors share it."""
        return self.digest.hex if self.digest else hashlib.sha256(str(self.url).encode()).hexdigest()


class StartOver(Exception):
    """The server sends the whole file though a part was asked for: the file changed, or the server knows no ranges."""


class Tries:
    """Counts tries in a row without headway, and waits longer each time."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._failed = 0

    def got_on(self) -> None:
        self._failed = 0

    def failed(self, fault: Interrupted, url: Address, stop: threading.Event) -> None:
        """Wait for the next try. Raises DownloadError when it was the last."""
        self._failed += 1
        if self._failed >= self._limits.attempts:
            raise DownloadError(
                f"{url.shown} could not be fetched: {fault}; {self._failed} tries.",
                hint="Try again later: what has come so far is kept and continued.",
            ) from fault
        pause = min(self._limits.back_off * 2 ** (self._failed - 1), self._limits.longest_back_off)
        if fault.retry_after is not None:
            pause = min(max(pause, fault.retry_after), self._limits.longest_back_off)
        stop.wait(pause * random.uniform(0.75, 1.25))  # noqa: S311 - spreads retries, no secret


class Download:
    """One run of one download: connections that write chunks, and a hasher that follows them."""

    def __init__(self, wanted: DownloadTarget, partial: Partial, limits: Limits, progress: Progress | None) -> None:
        self._wanted = wanted
        self._partial = partial
        self._limits = limits
        self._report = progress or (lambda done, total: None)
        self._plan = Plan(partial)
        self._bandwidth = Bandwidth(limits.bandwidth)
        self._stop = threading.Event()
        self._open: set[Response] = set()
        self._ranges = limits.connections > 1
        self._saved = time.monotonic()
        self._looked_at = self._saved, partial.done

    def run(self) -> str:
        """Fetch what is missing; the SHA-256 of the whole file in hex. Raises DownloadError and its like."""
        with ThreadPoolExecutor(self._limits.connections + 1, thread_name_prefix="download") as pool:
            hashing = pool.submit(self._partial.digest, self._plan.wait_for)
            try:
                if self._partial.length:
                    self._follow(pool)
                while not hashing.done():
                    wait([hashing], timeout=0.1)
                    self._report(self._partial.done, self._partial.length)
                return hashing.result()
            finally:
                self._end()

    def _follow(self, pool: ThreadPoolExecutor) -> None:
        """Keep the connections going until every chunk is there."""
        tasks: set[Future[None]] = {pool.submit(self._work)}
        while tasks:
            ended, tasks = wait(tasks, timeout=0.1, return_when=FIRST_COMPLETED)
            for task in ended:
                task.result()
            self._report(self._partial.done, self._partial.length)
            if time.monotonic() - self._saved > _SAVE_EVERY:
                self._partial.save()
                self._saved = time.monotonic()
            if tasks and len(tasks) < self._limits.connections and self._help_pays():
                tasks.add(pool.submit(self._work, helper=True))
            elif not tasks and self._partial.done < self._partial.length:
                tasks.add(pool.submit(self._work))  # a helper left and gave its chunk back

    def _help_pays(self) -> bool:
        """Whether another connection is worth it: much is to come, and it came slowly since the last look."""
        now, done = time.monotonic(), self._partial.done
        since, before = self._looked_at
        if not self._ranges or self._partial.length - done < _PARALLEL_FROM or now - since < _PARALLEL_AFTER:
            return False
        self._looked_at = now, done
        return (done - before) / max(now - since, 1e-3) < _FAST

    def _end(self) -> None:
        """Stop every thread and keep what has come."""
        self._stop.set()
        self._plan.stop()
        for response in list(self._open):
            response.abort()
        with contextlib.suppress(PantryError):
            self._partial.save()

    def _work(self, helper: bool = False) -> None:
        """Fetch free chunks until there are none. A helper leaves at its first fault; the main one tries again."""
        tries = Tries(self._limits)
        while not self._stop.is_set() and (span := self._plan.claim()) is not None:
            before = self._partial.done
            try:
                self._fetch_span(*span, alone=not helper)
            except Interrupted as fault:
                if self._stop.is_set() or helper:
                    return
                if self._partial.done - before >= _REWARD:
                    tries.got_on()
                tries.failed(fault, self._wanted.url, self._stop)

    def _fetch_span(self, chunk: int, end: int, *, alone: bool) -> None:
        """Fetch from the claimed `chunk` on, as long as the next chunk is free."""
        held: int | None = chunk
        try:
            offset = chunk * CHUNK + self._partial.have[chunk]
            last = min(end * CHUNK, self._partial.length) - 1
            with self._request(offset, last) as response, self._abortable(response):
                if response.status == 200 and offset:
                    self._ranges = False
                    raise StartOver("the server sends no parts of it") if alone else Interrupted("no parts")
                while held is not None and self._fetch_chunk(response, held):
                    self._plan.release(held)
                    held = self._next_of(held, last)
        finally:
            if held is not None:
                self._plan.release(held)

    def _next_of(self, chunk: int, last: int) -> int | None:
        """The chunk after this one, claimed, if the response goes on with it and nobody has any of it."""
        following = chunk + 1
        if following * CHUNK > last or self._partial.have[following] or not self._plan.claim_next(following):
            return None
        return following

    @contextlib.contextmanager
    def _abortable(self, response: Response) -> Iterator[None]:
        """Let `_end` wake up the thread that reads this response."""
        self._open.add(response)
        try:
            yield
        finally:
            self._open.discard(response)

    def _fetch_chunk(self, response: Response, chunk: int) -> bool:
        """Write what the response brings until the chunk is full; False when we were stopped."""
        partial, size = self._partial, self._partial.size_of(chunk)
        while (have := partial.have[chunk]) < size:
            if self._stop.is_set():
                return False
            data = response.read(min(1 << 18, size - have))
            if not data:
                raise Interrupted(f"the connection ended after {format_bytes(partial.done)}")
            partial.write(chunk * CHUNK + have, data)
            partial.have[chunk] = have + len(data)
            self._bandwidth.spend(len(data), self._stop)
        return True

    def _request(self, offset: int, last: int) -> Response:
        wanted, partial = self._wanted, self._partial
        headers = dict(wanted.headers)
        if offset or last + 1 < partial.length:
            headers["Range"] = f"bytes={offset}-{last}"
            if partial.validator:
                headers["If-Range"] = partial.validator
        response = open_response(wanted.url, headers, self._limits)
        try:
            self._check(response, offset)
        except BaseException:
            response.close()
            raise
        return response

    def _check(self, response: Response, offset: int) -> None:
        """The head of the response must promise the bytes asked for."""
        url, length = self._wanted.url, self._partial.length
        if response.status == 416:
            raise StartOver("the file there has become shorter")
        if response.status not in (200, 206):
            raise refusal(url, response.status)
        if response.header("Content-Encoding") not in ("", "identity"):
            raise DownloadError(f"{url.shown} comes encoded ({response.header('Content-Encoding')}); that is refused.")
        told: int | None = response.length if response.status == 200 else None
        if response.status == 206:
            found = RANGE.fullmatch(response.header("Content-Range"))
            if not found or int(found[1]) != offset:
                raise DownloadError(f"{url.shown}: the server answered with another part than asked for.")
            told = int(found[3]) if found[3] != "*" else None
        if told is not None and told != length:
            kind = response.header("Content-Type").partition(";")[0] or "an unnamed type"
            raise DownloadError(
                f"{url.shown} is {told} bytes of {kind} long; expected were {length} bytes.",
                hint="A proxy or a login page may answer in its place.",
            )
        validator = response.header("ETag") or response.header("Last-Modified")
        if not validator.startswith("W/"):
            self._partial.validator = validator


def refusal(url: Address, status: int) -> PantryError:
    """The error for a status that another try does not mend."""
    if status in (401, 403):
        return UnauthorisedError(f"{url.shown} answered {status}: access is denied.", hint="It may need a token.")
    if status in (404, 410):
        return NotFoundError(f"{url.shown} is not there (status {status}).")
    return DownloadError(f"{url.shown} answered with status {status}.")
