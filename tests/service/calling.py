"""A program that uses the call socket and POST /call, for tests: nothing but lines of JSON."""

from __future__ import annotations

import json
import socket
from typing import Any

from pantry.access.apps import add_app
from pantry.core.paths import Paths
from pantry.core.permissions import Grant, Permission
from tests.service.running import Service


class Line:
    """One connection to the call socket."""

    def __init__(self, service: Service) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(20)
        self.socket.connect(str(service.paths.call_socket))
        self.file = self.socket.makefile("rb")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def send(self, function: str, parameters: dict[str, Any] | None = None, **more: Any) -> None:
        self.send_raw(json.dumps({"function": function, "parameters": parameters or {}, **more}).encode() + b"\n")

    def send_raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> dict[str, Any]:
        line = self.file.readline()
        assert line, "the connection was closed"
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer

    def ask(self, function: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """One call and its closing reply."""
        self.send(function, parameters, **more)
        while (answer := self.read())["status"] == "partial":
            pass
        return answer

    def value(self, function: str, parameters: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """The value of a call that must succeed."""
        answer = self.ask(function, parameters, **more)
        assert answer["status"] == "success", answer
        value = answer["value"]
        assert isinstance(value, dict)
        return value


def make_app(paths: Paths, name: str, *permissions: str, grant: Grant | None = None) -> str:
    """Add an app with permissions, as the owner does with `pantry app add`; its key."""
    return add_app(paths, name, None, [Permission.parse(each) for each in permissions], grant or Grant())[1]
