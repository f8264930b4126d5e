"""The bytes of the native API, without any I/O: where a service may be, how a call looks, what a reply says.

Over TCP a call is one HTTP/1.0 request: its answer ends with the connection, so that reading it needs no HTTP library.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from pantry.client.discovery import check_run_folder, read_service_info
from pantry.client.tcp_owners import ports_of_others
from pantry.core.errors import ServiceUnavailableError, UsageError, error_from_reply
from pantry.core.paths import Paths
from pantry.core.ports import DEFAULT_PORT, PORT_TRIES

PROBE_TIMEOUT = 1.0  # seconds a stranger on a port may keep us waiting
CONNECT_TIMEOUT = 5.0  # seconds
MAX_REPLY = 64_000_000  # bytes of one reply line


@dataclass(frozen=True)
class Address:
    """Where a service may be: a Unix socket, or a host and port."""

    socket: str | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    def __str__(self) -> str:
        return self.socket or f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """An address from `http://127.0.0.1:7490` or the path of a call socket. Raises UsageError."""
    if text.startswith("/"):
        return Address(socket=text)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme != "http" or not host:
        raise UsageError(f"{text!r} is not an address of Pantry.", hint="It looks like http://127.0.0.1:7490.")
    return Address(host=host, port=port or DEFAULT_PORT)


def addresses(paths: Paths, given: str | None) -> Iterator[Address]:
    """Where to look, most likely first: what was given or PANTRY_URL says alone, else socket, noted port, then up.

    Where another user listens is left out, unless it was given: whoever answers there would be sent keys. Raises
    ForbiddenError when the folder of the socket is another user's.
    """
    if text := given or os.environ.get("PANTRY_URL"):
        yield parse_address(text)
        return
    if paths.call_socket.exists():
        check_run_folder(paths)
        yield Address(socket=str(paths.call_socket))
    info, strange = read_service_info(paths), ports_of_others()
    noted = [info.port] if info else []
    for port in (*noted, *(each for each in range(DEFAULT_PORT, DEFAULT_PORT + PORT_TRIES) if each not in noted)):
        if port not in strange:
            yield Address(port=port)


def is_pantry(value: Mapping[str, Any], check: int) -> bool:
    """Whether the value of a handshake comes from Pantry and answers this very call."""
    return value.get("name") == "pantry" and value.get("check") == check


def request_bytes(address: Address, key: str | None, function: str, parameters: Mapping[str, Any]) -> bytes:
    """One call, ready to be sent."""
    given = {name: value for name, value in parameters.items() if value is not None}
    body: dict[str, Any] = {"function": function, "parameters": given}
    if address.socket is not None:
        return json.dumps(body | {"key": key} if key else body).encode() + b"\n"
    data = json.dumps(body).encode()
    lines = [
        "POST /call HTTP/1.0",
        f"Host: {str(address).removeprefix('http://')}",
        "Content-Type: application/json",
        f"Content-Length: {len(data)}",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


class Replies:
    """Takes in the lines of an answer and gives out its reply objects, over either way."""

    def __init__(self, address: Address) -> None:
        self._in_head = address.socket is None
        self._first = self._in_head
        self.closed = False

    def take(self, line: bytes) -> tuple[bool, dict[str, Any]] | None:
        """The value in a line and whether it is the last; None for a line that carries none.

        Raises the error that the reply tells, and ServiceUnavailableError for what Pantry would not send.
        """
        if self._first and not line.startswith(b"HTTP/1."):
            raise ServiceUnavailableError("What answers there is not Pantry.")
        self._first = False
        if self._in_head:
            self._in_head = bool(line.strip())
            return None
        text = line.removeprefix(b"data: ").strip()
        if not text:
            return None
        try:
            reply = json.loads(text)
            status, value = reply["status"], reply.get("value", {})
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ServiceUnavailableError("What answers there is not Pantry.") from None
        if status == "error":
            self.closed = True
            raise error_from_reply(reply)
        self.closed = status == "success"
        if status not in ("success", "partial") or not isinstance(value, dict):
            raise ServiceUnavailableError("What answers there is not Pantry.")
        return self.closed, value


def broken_off() -> ServiceUnavailableError:
    """The error for an answer that ended without its closing reply."""
    return ServiceUnavailableError("The service stopped in the middle of an answer.")


def not_running() -> ServiceUnavailableError:
    """The error when no address answers as Pantry."""
    return ServiceUnavailableError("Pantry is not running.", hint="Start it with: pantry up --detach")
