"""Calls over plain sockets: one connection a call; closing it cancels the call."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator, Mapping
from typing import Any

from pantry.client._wire import CONNECT_TIMEOUT, MAX_REPLY, Address, Replies, broken_off, not_running, request_bytes


class Transport:
    """Sends calls to one address. Threads may share it."""

    def __init__(self, address: Address, key: str | None = None) -> None:
        self.address, self.key = address, key

    def stream(
        self, function: str, parameters: Mapping[str, Any], timeout: float | None = None
    ) -> Generator[tuple[bool, dict[str, Any]], None, None]:
        """Whether it is the last, and the value, of each reply. Raises the error that a reply tells.

        `timeout` bounds the wait for each reply, in seconds. Close the generator to cancel the call.
        """
        replies = Replies(self.address)
        connection = self._open(timeout)
        with connection, connection.makefile("rb") as lines:
            try:
                connection.settimeout(timeout)
                connection.sendall(request_bytes(self.address, self.key, function, parameters))
                while not replies.closed:
                    line = lines.readline(MAX_REPLY)
                    if not line.endswith(b"\n") and not (line and self.address.socket is None):
                        raise broken_off()
                    if (taken := replies.take(line)) is not None:
                        yield taken
            except OSError as error:
                raise broken_off() from error

    def call(self, function: str, parameters: Mapping[str, Any], timeout: float | None = None) -> dict[str, Any]:
        """The value of a call."""
        with contextlib.closing(self.stream(function, parameters, timeout)) as replies:
            for last, value in replies:
                if last:
                    return value
        raise broken_off()

    def _open(self, timeout: float | None) -> socket.socket:
        patience = timeout or CONNECT_TIMEOUT
        try:
            if self.address.socket is None:
                return socket.create_connection((self.address.host, self.address.port), patience)
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(patience)
                connection.connect(self.address.socket)
            except BaseException:
                connection.close()
                raise
            return connection
        except OSError as error:
            raise not_running() from error
