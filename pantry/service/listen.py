"""Listening inside bounds: how many connections are open at once, and sockets that only their owner can reach."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import cast

from aiohttp import web

from pantry.core.errors import ConflictError, StorageError

_SPARE = 512  # descriptors for models, workers, the database and the like
_REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
    b'{"error":{"message":"Too many connections are open (setting max_connections).","code":"busy"}}'
)


def allow_descriptors(connections: int) -> None:
    """Raise this process's limit of open files, as far as it may, to what its connections need."""
    wanted = 3 * connections + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def bind_unix(path: Path) -> socket.socket:
    """A bound Unix socket with owner-only rights, in place of one that nobody listens on any more.

    Raises ConflictError when somebody does, or when the path is something else or another user's.
    """
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
            raise ConflictError(f"{path} is not a socket of yours.", hint="Remove it, or choose another path.")
        if _somebody_listens(path):
            raise ConflictError(f"Another program listens on {path}.", hint="Stop it, or choose another path.")
        path.unlink()
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        unix.bind(str(path))
    except OSError as error:
        unix.close()
        raise StorageError(f"Cannot make the socket {path}: {error.strerror}.") from None
    finally:
        os.umask(before)
    return unix


def limited(runner: web.AppRunner, most: int) -> Callable[[], asyncio.BaseProtocol]:
    """The runner's protocol factory; a connection beyond `most` gets a refusal and is closed."""
    server = runner.server
    assert server is not None  # noqa: S101 - set up by the caller

    def make() -> asyncio.BaseProtocol:
        return server() if len(server.connections) < most else _Refusing()

    return make


def _somebody_listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


class _Refusing(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        writable = cast(asyncio.WriteTransport, transport)
        writable.write(_REFUSAL)
        writable.close()
