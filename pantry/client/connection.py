"""Asking a running service: JSON in, JSON or a stream of events out, over the Unix socket or TCP.

Standard library only, so that a command starts at once. One connection serves one request at a time; closing it
cancels what it asked for.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import sys
from collections.abc import Generator
from typing import Any

from pantry.client.discovery import check_run_folder
from pantry.core.errors import ForbiddenError, ServiceUnavailableError, error_from_reply
from pantry.core.paths import Paths

CONNECT_TIMEOUT = 5.0  # seconds
_PEER = struct.Struct("3i")  # pid, uid, gid: struct ucred of Linux


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_TIMEOUT)
        self.sock.connect(self._path)
        if peer_uid(self.sock) not in (None, os.getuid()):
            self.sock.close()
            raise ForbiddenError(
                f"The socket {self._path} is served by another user.",
                hint="Remove it, or set PANTRY_HOME to a folder of yours.",
            )


def peer_uid(sock: socket.socket) -> int | None:
    """The user at the other end of a Unix socket; None where the system does not tell (all but Linux)."""
    if sys.platform != "linux":
        return None
    return int(_PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))[1])


class ServiceConnection:
    """A way to ask the service of a home, as its owner."""

    def __init__(self, paths: Paths) -> None:
        self._paths, self._socket = paths, str(paths.socket)

    def get(self, path: str) -> Any:
        """GET a JSON object. Raises ServiceUnavailableError, or the error the service answers with."""
        return self._ask("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST a JSON object and read one back. Raises as `get` does."""
        return self._ask("POST", path, body)

    def stream(self, path: str, body: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """POST and yield the events of the answer as they come. Closing the iterator cancels the request."""
        connection, response = self._open("POST", path, {**body, "stream": True})
        try:
            complete = False
            for line in response:
                if line == b"data: [DONE]\n":
                    complete = True
                elif line.startswith(b"data: "):
                    event = json.loads(line[6:])
                    if "error" in event:
                        raise error_from_reply(event)
                    yield event
            if not complete:
                raise _stopped()
        except (http.client.HTTPException, OSError) as error:
            raise _stopped() from error
        finally:
            connection.close()

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        connection, response = self._open(method, path, body)
        try:
            return json.loads(response.read())
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise ServiceUnavailableError("The service broke off its answer.") from error
        finally:
            connection.close()

    def _open(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        check_run_folder(self._paths)
        connection = _UnixConnection(self._socket)
        try:
            connection.connect()
            connection.sock.settimeout(None)
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise ServiceUnavailableError("Pantry is not running.", hint="Start it with: pantry up --detach") from error
        except BaseException:
            connection.close()
            raise
        if response.status >= 400:
            try:
                reply = json.loads(response.read())
            except (ValueError, RecursionError, OSError, http.client.HTTPException):
                reply = None
            finally:
                connection.close()
            raise error_from_reply(reply, response.status)
        return connection, response


def _stopped() -> ServiceUnavailableError:
    return ServiceUnavailableError("The service stopped in the middle of an answer.", hint="Ask again: it starts anew.")
