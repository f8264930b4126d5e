"""The owner's page: a link that opens it logged in, once."""

from __future__ import annotations

from pantry.client.connection import ServiceConnection
from pantry.core.paths import Paths
from pantry.operations.service import ensure_service


def page_link(paths: Paths) -> str:
    """An address that logs one browser in, once; the service is started when none runs.

    The code is behind the `#`: browsers send that part to nobody, and the page takes it out of the address at once.
    """
    info = ensure_service(paths).info
    code = ServiceConnection(paths).post("/admin/page-code", {})["code"]
    return f"{info.url}/ui/#{code}"
