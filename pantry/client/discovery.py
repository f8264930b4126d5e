"""Where the service of this home runs, as it says itself."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass

from pantry.core.errors import ForbiddenError
from pantry.core.locks import lock_signer
from pantry.core.paths import Paths, is_ours


@dataclass(frozen=True)
class ServiceInfo:
    """A running service. `started_at` is seconds since 1970."""

    pid: int
    host: str
    port: int
    socket: str
    version: str
    started_at: float

    @property
    def url(self) -> str:
        """The address for programs on this machine."""
        anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
        host = anywhere.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def lock_holder(paths: Paths) -> int | None:
    """The process that holds the lock of this home, so runs its service or is about to; None when nobody does."""
    return lock_signer(paths.lock_file)


def read_service_info(paths: Paths) -> ServiceInfo | None:
    """What the last service of this home wrote at its start; None when there is nothing readable.

    It may be out of date after a kill: ask the socket to be sure.
    """
    with contextlib.suppress(OSError, ValueError, TypeError):
        return ServiceInfo(**json.loads(paths.service_file.read_text()))
    return None


def check_run_folder(paths: Paths) -> None:
    """Raises ForbiddenError when others could have put a socket into the folder where the service's sockets are."""
    if paths.run.exists() and not is_ours(paths.run):
        raise ForbiddenError(
            f"{paths.run} belongs to another user, or others may write to it.",
            hint="Remove it, or set PANTRY_HOME to a folder of yours.",
        )
