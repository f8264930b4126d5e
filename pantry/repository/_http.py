"""One HTTP request over http.client: proxies, redirects with their rules, and reads that a server cannot stretch.

A redirect leads to the public internet or stays in the network where it began. The peer's address is looked at after
connecting and before anything is sent, so that a name that resolves to a private address cannot lead us there. Behind
a proxy only the name can be judged.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pantry import __version__
from pantry.core.errors import DownloadError
from pantry.repository.address import Address, Network, network_of
from pantry.repository.limits import Limits, Pace

READ = 1 << 18  # bytes asked of the socket at a time
_REDIRECTS = (301, 302, 303, 307, 308)
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


class Interrupted(Exception):
    """A fault that a new try may mend. `retry_after` is in seconds, where the server named a time."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Response:
    """A response whose head has come; the body is read piece by piece."""

    def __init__(self, link: socket.socket, raw: http.client.HTTPResponse, limits: Limits) -> None:
        self._link = link
        self._raw = raw
        self._limits = limits
        self._pace = Pace(limits)
        self.status = raw.status
        self.headers = raw.headers
        self.length = raw.length

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    def read(self, limit: int = READ) -> bytes:
        """At most `limit` bytes, as soon as some are there; empty at the end. Raises Interrupted."""
        start = time.monotonic()
        try:
            if self._raw.chunked:
                with _cut_after(self._link, self._limits.slow_window):
                    data = self._raw.read1(limit)
            else:
                data = self._raw.read1(limit)
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
            raise Interrupted(f"the connection broke ({_reason(error)})") from error
        if data and self._pace.too_slow(time.monotonic() - start, len(data)):
            raise Interrupted(f"the server sends less than {self._limits.minimum_rate} bytes a second")
        return data

    def abort(self) -> None:
        """Wake up a thread that waits in `read`; from any thread."""
        _shut(self._link)

    def close(self) -> None:
        self._raw.close()
        self._link.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_response(url: Address, headers: Mapping[str, str], limits: Limits, *, method: str = "GET") -> Response:
    """Send a request and follow its redirects.

    Raises Interrupted for faults that may pass, and DownloadError for a redirect that is refused. Statuses of 400 and
    above come back as responses, except those that may pass.
    """
    sent = {"User-Agent": f"pantry/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity", **headers}
    origin: Network | None = None
    for _ in range(limits.redirects + 1):
        connection, network = _connect(url, limits)
        link = connection.sock
        try:
            origin = origin or network
            if network not in ("public", origin):
                raise DownloadError(f"A redirect leads to the private address {url.netloc}; that is refused.")
            raw = _exchange(connection, url, method, sent, limits)
        except BaseException:
            connection.close()
            raise
        if raw.status in _TEMPORARY:
            wait = raw.headers.get("Retry-After", "")
            connection.close()
            seconds = float(wait) if wait.isdecimal() else None
            raise Interrupted(f"{url.netloc} answered {raw.status} {raw.reason}", seconds)
        if raw.status not in _REDIRECTS:
            return Response(link, raw, limits)
        location = raw.headers.get("Location", "")
        connection.close()
        target = url.redirected(location)
        if target.netloc != url.netloc or target.scheme != url.scheme:
            sent.pop("Authorization", None)
        url = target
    raise DownloadError(f"{url.shown}: more than {limits.redirects} redirects.")


def _connect(url: Address, limits: Limits) -> tuple[http.client.HTTPConnection, Network]:
    """A connection to the host, or to the proxy the environment names; and the host's network."""
    proxy = _proxy_for(url)
    host, port = (proxy.hostname or "", proxy.port or 80) if proxy else (url.host, url.port)
    if url.scheme == "https":
        context = ssl.create_default_context()
        connection: Any = http.client.HTTPSConnection(host, port, timeout=limits.connect_timeout, context=context)
        if proxy:
            connection.set_tunnel(url.host, url.port, headers=_proxy_credentials(proxy))
    else:
        connection = http.client.HTTPConnection(host, port, timeout=limits.connect_timeout)
    try:
        connection.connect()
    except (OSError, http.client.HTTPException) as error:
        connection.close()
        if isinstance(error, ssl.SSLCertVerificationError):
            raise DownloadError(f"{url.netloc} shows a bad certificate: {error.verify_message}.") from None
        what = f"the proxy {host}:{port}" if proxy else url.netloc
        raise Interrupted(f"{what} cannot be reached ({_reason(error)})") from error
    connection.sock.settimeout(limits.read_timeout)
    network = url.network if proxy else network_of(str(connection.sock.getpeername()[0]))
    return connection, network


def _exchange(
    connection: http.client.HTTPConnection, url: Address, method: str, headers: dict[str, str], limits: Limits
) -> http.client.HTTPResponse:
    proxy = _proxy_for(url)
    absolute = proxy is not None and url.scheme == "http"
    extra = _proxy_credentials(proxy) if absolute and proxy is not None else {}
    try:
        with _cut_after(connection.sock, limits.header_timeout):
            connection.request(method, str(url) if absolute else url.target, headers={**headers, **extra})
            return connection.getresponse()
    except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:
        raise Interrupted(f"{url.netloc} gave no proper answer ({_reason(error)})") from error


def _proxy_for(url: Address) -> Any:
    """The proxy that the environment (`https_proxy`, `no_proxy`, ...) names for this address, parsed; or None."""
    proxies = urllib.request.getproxies()
    named = proxies.get(url.scheme) or proxies.get("all")
    if not named or urllib.request.proxy_bypass(url.host):
        return None
    parsed = urlsplit(named if "//" in named else f"http://{named}")
    if parsed.scheme != "http" or not parsed.hostname:
        raise DownloadError(f"The proxy {parsed.scheme}://{parsed.hostname} cannot be used; only http proxies can.")
    return parsed


def _proxy_credentials(proxy: Any) -> dict[str, str]:
    if proxy.username is None:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


@contextlib.contextmanager
def _cut_after(link: socket.socket, seconds: float) -> Iterator[None]:
    """Cut the connection when the block takes longer: a server that drips bytes never runs into a socket timeout.

    Raises TimeoutError then.
    """
    late = threading.Event()

    def cut() -> None:
        late.set()
        _shut(link)

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception as error:
        if late.is_set():
            raise TimeoutError from error
        raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


def _shut(link: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error)
    return text or type(error).__name__
