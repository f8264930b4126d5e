"""Which web pages may call, on the routes made for them: those whose origin is an app that the user approved."""

from __future__ import annotations

import time

from pantry.access.apps import parse_origin
from pantry.core.errors import UsageError
from pantry.core.permissions import Permission
from pantry.service.state import Gateway
from pantry.service.surface import Surface
from pantry.store.apps import Apps

_EXTENSIONS = frozenset({"chrome-extension", "moz-extension", "safari-web-extension"})


def page_may_call(gateway: Gateway, origin: str | None) -> bool:
    """Whether the Origin header is that of an approved page or of a browser extension. A key is needed all the same."""
    if origin is None:
        return False
    return origin.partition("://")[0] in _EXTENSIONS or is_approved(gateway, origin)


def may_read(gateway: Gateway, origin: str, surface: Surface) -> bool:
    """Whether the browser may give the answer to a page of `origin`."""
    return origin in gateway.settings.allowed_origins or (surface.for_pages and is_approved(gateway, origin))


def is_approved(gateway: Gateway, origin: str) -> bool:
    """Whether pages of `origin` have the permission to generate text, now."""
    try:
        app = Apps(gateway.store.database).of_origin(parse_origin(origin))
    except UsageError:
        return False
    return app is not None and app.caller().holds(Permission.SESSION, time.time())
