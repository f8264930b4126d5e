"""Pantry: a local-first platform for open language models. Programs begin with `pantry.Client()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pantry.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in ("Client", "AsyncClient"):
        import pantry.client

        return getattr(pantry.client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
