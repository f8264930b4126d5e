"""Finding a running service, and asking it: `Client` for programs, `AsyncClient` for asyncio.

Standard library only; what is not used is not imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pantry.client._client_async import AsyncClient, AsyncSession
    from pantry.client._client_sync import Client, Session

__all__ = ["AsyncClient", "AsyncSession", "Client", "Session"]


def __getattr__(name: str) -> Any:
    if name in ("Client", "Session"):
        from pantry.client import _client_sync

        return getattr(_client_sync, name)
    if name in ("AsyncClient", "AsyncSession"):
        from pantry.client import _client_async

        return getattr(_client_async, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
