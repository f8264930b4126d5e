"""The life of the service process: one for each home, listening on TCP and a Unix socket, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import psutil
from aiohttp import web

from pantry import __version__
from pantry.access.usage import UsageCounter
from pantry.client.discovery import ServiceInfo, read_service_info
from pantry.core.errors import ConflictError, ServiceUnavailableError, StorageError, UsageError
from pantry.core.files import storage_errors, write_atomically
from pantry.core.hosts import is_loopback
from pantry.core.locks import signed_lock
from pantry.core.paths import Paths, make_private
from pantry.core.ports import PORT_TRIES
from pantry.core.settings import Settings
from pantry.engines.adapter import ENGINES
from pantry.engines.pool import Pool
from pantry.evaluation.speeds import Speeds
from pantry.formats.parts import PlacedPart
from pantry.service.app import build_app
from pantry.service.context import ServiceContext
from pantry.service.listen import allow_descriptors, bind_unix, limited
from pantry.service.metrics import Metrics
from pantry.service.native.socket import CallServer
from pantry.service.state import Gateway
from pantry.service.surface import own_ports
from pantry.store.keys import Keys
from pantry.store.models import InstalledModel, Store

log = logging.getLogger("pantry.service")
SHUTDOWN_GRACE = 0.5  # seconds that answers being written have to end
BACKLOG = 1024


def run_service(settings: Settings, paths: Paths, on_ready: Callable[[ServiceInfo], None]) -> None:
    """Run the service until SIGINT or SIGTERM.

    `on_ready` is told the address once requests are taken. Raises ConflictError when a service of this home runs
    already, ServiceUnavailableError when no port is free, UsageError for an address that would be open to all.
    """
    if not is_loopback(settings.host) and not settings.require_key:
        raise UsageError(
            f"{settings.host} can be reached from other machines, and require_key is off.",
            hint="Turn require_key on, or listen on 127.0.0.1.",
        )
    if settings.engine != "auto":
        ENGINES.get(settings.engine)  # an unknown name is told now, not at the first request
    import uvloop

    make_private(paths.run)
    with _only_service(paths), Store.open(paths) as store:
        _end_leftovers(paths)
        store.blobs.clean_unfinished()
        keys = Keys(store.database)
        _ensure_owner_key(keys, paths)
        uvloop.run(_serve(settings, paths, store, keys, on_ready))


async def _serve(
    settings: Settings, paths: Paths, store: Store, keys: Keys, on_ready: Callable[[ServiceInfo], None]
) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    pool = Pool(
        store, settings, paths, admit=lambda model, parts: _admit(paths, model, parts), rules=lambda: _rules(paths)
    )
    gateway = Gateway(
        settings, paths, store, keys, pool, Metrics(), stopping, UsageCounter(store.database), Speeds(store.database)
    )
    async with _listening(gateway, paths) as port:
        info = ServiceInfo(os.getpid(), settings.host, port, str(paths.socket), __version__, time.time())
        gateway.info = info
        write_atomically(paths.service_file, json.dumps(info.__dict__).encode(), mode=0o600)
        on_ready(info)
        log.info("listening on %s port %s and %s", settings.host, port, paths.socket)
        try:
            await stopping.wait()
        finally:
            paths.service_file.unlink(missing_ok=True)
    log.info("stopped")


def _admit(paths: Paths, model: InstalledModel, parts: Sequence[PlacedPart]) -> None:
    """Ask the policy, which is only read when something is loaded."""
    from pantry.policy.load_check import admit_load

    admit_load(paths, model, parts)


def _rules(paths: Paths) -> object:
    """What tells whether the policy was changed, in microseconds."""
    from pantry.policy.file import policy_mark

    return policy_mark(paths)


@contextlib.asynccontextmanager
async def _listening(gateway: Gateway, paths: Paths) -> AsyncIterator[int]:
    """Listen on the first free port and on the Unix socket; the port. Stops the workers at the end."""
    allow_descriptors(gateway.settings.max_connections)
    service = ServiceContext.around(gateway)
    settings, calls = gateway.settings, CallServer(service)
    loop = asyncio.get_running_loop()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(_wind_down, gateway)
        http = limited(await stack.enter_async_context(_running(build_app(service))), settings.max_connections)
        stack.push_async_callback(calls.close)
        tcp = _bind(settings.host, settings.port)
        _close_after(stack, await loop.create_server(http, sock=tcp, backlog=BACKLOG))
        _close_after(stack, await loop.create_unix_server(http, sock=_unix(stack, paths.socket), backlog=BACKLOG))
        _close_after(stack, await calls.listen(_unix(stack, paths.call_socket), BACKLOG))
        for other in own_ports(settings):
            runner = await stack.enter_async_context(_running(other.build(service)))
            make, unix = limited(runner, settings.max_connections), _unix(stack, other.socket(settings))
            _close_after(stack, await loop.create_unix_server(make, sock=unix, backlog=BACKLOG))
            port = _bind(settings.host, other.port(settings), tries=1)
            _close_after(stack, await loop.create_server(make, sock=port, backlog=BACKLOG))
        gateway.spawn(service.runner.run())
        yield int(tcp.getsockname()[1])


def _unix(stack: contextlib.AsyncExitStack, path: Path) -> socket.socket:
    """A bound Unix socket whose path is removed at the end."""
    bound = bind_unix(path)
    stack.callback(path.unlink, missing_ok=True)
    return bound


def _close_after(stack: contextlib.AsyncExitStack, server: asyncio.AbstractServer) -> None:
    stack.callback(server.close)


@contextlib.asynccontextmanager
async def _running(app: web.Application) -> AsyncIterator[web.AppRunner]:
    """An application ready to take connections, ended with its answers."""
    runner = web.AppRunner(
        app,
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=SHUTDOWN_GRACE,
        auto_decompress=False,  # compressed bodies are refused, not unpacked
    )
    await runner.setup()
    try:
        yield runner
    finally:
        await runner.cleanup()


async def _wind_down(gateway: Gateway) -> None:
    """End what goes on beside the requests, then the workers."""
    for task in gateway.tasks:
        task.cancel()
    await asyncio.gather(*gateway.tasks, return_exceptions=True)
    await gateway.pool.close()
    gateway.usage.flush()
    gateway.speeds.flush()


def _bind(host: str, first: int, tries: int = PORT_TRIES) -> socket.socket:
    """A socket bound to the first free port from `first` up. Raises ServiceUnavailableError."""
    for port in range(first, min(first + tries, 65536)):
        family, kind, proto, _, address = _resolve(host, port)
        sock = socket.socket(family, kind, proto)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                continue
            raise ServiceUnavailableError(f"Cannot listen on {host} port {port}: {error.strerror}.") from None
        return sock
    taken = f"The ports {first} to {first + tries - 1} of {host} are all taken."
    if tries == 1:
        taken = f"Port {first} of {host} is taken."
    raise ServiceUnavailableError(taken, hint="Choose another (docs/settings.md).")


def _resolve(host: str, port: int) -> tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[object, ...]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(f"The address {host!r} is not known: {error.strerror}.") from None


@contextlib.contextmanager
def _only_service(paths: Paths) -> Iterator[None]:
    """Hold the lock of this home. The kernel frees it when the process ends, however it ends."""
    with contextlib.ExitStack() as stack:
        with storage_errors("Starting the service"):
            taken = stack.enter_context(signed_lock(paths.lock_file))
        if not taken:
            info = read_service_info(paths)
            where = f" on port {info.port} (process {info.pid})" if info else ""
            raise ConflictError(f"Pantry runs already{where}.", hint="See: pantry status")
        yield


def _end_leftovers(paths: Paths) -> None:
    """End workers of a service that was killed, and remove their sockets.

    The kernel ends them where it can (Linux); this is for other systems, and for a worker that was just being started.
    """
    run = str(paths.run)
    for process in psutil.process_iter(["cmdline", "pid"]):
        words = process.info["cmdline"] or []
        if any("pantry.engines.processes." in word for word in words) and any(f"{run}/w-" in word for word in words):
            with contextlib.suppress(psutil.Error):
                process.kill()
    for left in Path(paths.run).glob("w-*.sock"):
        left.unlink(missing_ok=True)


def _ensure_owner_key(keys: Keys, paths: Paths) -> None:
    """Make the owner's key at the first start, or again when its file is gone or no longer works."""
    file = paths.key_file
    with storage_errors(f"Reading {file}"):
        if file.exists():
            file.chmod(0o600)
            if keys.find(file.read_text().strip()):
                return
    key, text = keys.create("owner")
    try:
        write_atomically(file, f"{text}\n".encode(), mode=0o600)
    except StorageError:
        keys.revoke(key.id)
        raise
