"""The call socket's connections, on a pair of sockets."""

import asyncio
import json
import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest
import uvloop

from pantry.core.paths import Paths
from pantry.core.settings import Settings
from pantry.service.context import ServiceContext
from pantry.service.native.calls import parse_call
from pantry.service.native.socket import _Connection


@pytest.mark.parametrize("error", [OSError("disk full"), TimeoutError(), ConnectionResetError(), RuntimeError("bug")])
def test_call_that_fails_with_any_error_is_answered(error: Exception, paths: Paths) -> None:
    """The program waits for its reply: an OSError of the call is not one of the connection."""

    async def fails() -> dict[str, Any]:
        raise error

    async def answered() -> bytes:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            service = cast(ServiceContext, SimpleNamespace(gateway=SimpleNamespace(settings=Settings(), paths=paths)))
            connection = _Connection(service, reader, writer)
            await connection._run(parse_call({"function": "whoami", "id": 7}), fails())
            await connection.end()
            return theirs.recv(10_000)

    reply = json.loads(asyncio.run(answered()))
    assert (reply["id"], reply["status"], reply["code"]) == (7, "error", "internal_error")


def test_program_that_left_is_no_fault(caplog: pytest.LogCaptureFixture, paths: Paths) -> None:
    """uvloop, unlike asyncio, raises when something is written to a connection that is closed."""

    async def told() -> dict[str, Any]:
        return {"text": "too late"}

    async def answered() -> None:
        ours, theirs = socket.socketpair()
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        service = cast(ServiceContext, SimpleNamespace(gateway=SimpleNamespace(settings=Settings(), paths=paths)))
        connection = _Connection(service, reader, writer)
        writer.transport.abort()
        await asyncio.sleep(0.01)
        await connection._run(parse_call({"function": "whoami"}), told())
        await connection.end()

    uvloop.run(answered())
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
