"""Asking a running service: JSON in, JSON or a stream of events out, over the Unix socket or TCP.

Standard library only, so that a command starts at once. One connection serves one request at a time; closing it
cancels what it asked for.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Generator
from typing import Any

from pantry.core.errors import PantryError, ServiceUnavailableError, error_classes
from pantry.core.paths import Paths

CONNECT_TIMEOUT = 5.0  # seconds
_BY_CODE = {kind.code: kind for kind in error_classes()}


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=CONNECT_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(CONNECT_TIMEOUT)
        self.sock.connect(self._path)


class ServiceConnection:
    """A way to ask the service of a home, as its owner."""

    def __init__(self, paths: Paths) -> None:
        self._socket = str(paths.socket)

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
                        raise _error(event)
                    yield event
            if not complete:
                raise ServiceUnavailableError("The service stopped in the middle of an answer.")
        except (http.client.HTTPException, OSError) as error:
            raise ServiceUnavailableError("The service stopped in the middle of an answer.") from error
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
                raise _error(json.loads(response.read()))
            except ValueError:
                raise ServiceUnavailableError(f"The service answered with status {response.status}.") from None
            finally:
                connection.close()
        return connection, response


def _error(body: dict[str, Any]) -> PantryError:
    """The service's error as the class of the tree it came from."""
    told = body["error"]
    kind = _BY_CODE.get(told.get("code"), PantryError)
    error = PantryError.__new__(kind)
    PantryError.__init__(error, told.get("message", "The service gave no reason."))
    return error
