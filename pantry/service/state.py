"""The state of the service: what every part of it shares, and whether a caller may have something done."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pantry.access.apps import caller_of_key, refusal, ruling_on
from pantry.access.requests import approval_needed, ask, describe
from pantry.access.usage import UsageCounter
from pantry.client.discovery import ServiceInfo
from pantry.core.paths import Paths
from pantry.core.permissions import Action, Caller
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines.pool import Pool
from pantry.evaluation.speeds import Speeds
from pantry.service.logins import Logins
from pantry.service.metrics import Metrics
from pantry.service.notify import notify
from pantry.starter import STARTER
from pantry.store.keys import Keys
from pantry.store.models import InstalledModel, Store
from pantry.store.requests import AppRequest, Kind

log = logging.getLogger("pantry.service")


@dataclass
class Gateway:
    """What the handlers share."""

    settings: Settings
    paths: Paths
    store: Store
    keys: Keys
    pool: Pool
    metrics: Metrics
    stopping: asyncio.Event
    usage: UsageCounter
    speeds: Speeds
    info: ServiceInfo | None = None
    """Where the service listens, once it does."""
    logins: Logins = field(default_factory=Logins)
    """The browsers that are logged in on the owner's page."""
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    """Work that goes on beside the requests; ended with the service."""

    async def model(self, text: str) -> InstalledModel:
        """The installed model a request names. Raises ModelNotFoundError with the nearest name.

        The starter is unboxed at its first use, in a thread, since that takes a while.
        """
        name = ModelName.parse(text)
        if name == STARTER and self.store.find(name) is None:
            from pantry.install.starter import install_starter

            return await asyncio.to_thread(install_starter, self.paths)
        return self.store.get(name)

    def is_loaded(self, name: ModelName) -> bool:
        return any(entry.model.name == name for entry in self.pool.loaded())

    def recognise(self, key: str) -> Caller:
        """Who a key belongs to; an app is noted as seen. Raises UnauthorisedError for an unknown or revoked key."""
        caller = caller_of_key(self.store.database, key)
        self.usage.saw(caller.app)
        return caller

    def permit(self, caller: Caller, action: Action, model: ModelName | None = None) -> None:
        """Let an action through. Raises UnauthorisedError or ForbiddenError with the reason."""
        ruling = ruling_on(self.store.database, caller, action, model, self.usage.waiting(caller.app))
        if not ruling.allowed:
            raise refusal(caller, ruling)

    def permit_or_ask(self, caller: Caller, kind: Kind, model: ModelName, details: dict[str, Any]) -> AppRequest | None:
        """None when the caller may do it; else the request that now waits for the user. Raises as `permit` does."""
        action = {"load": Action.LOAD, "unload": Action.UNLOAD, "download": Action.DOWNLOAD}[kind]
        ruling = ruling_on(self.store.database, caller, action, model)
        if ruling.allowed:
            return None
        if ruling.outcome == "refused":
            raise refusal(caller, ruling)
        return self.announce(ask(self.store.database, self.settings, caller, kind, details))

    def announce(self, request: AppRequest) -> AppRequest:
        """Show the user a request that waits for an answer, where the desktop can; the same request."""
        if self.settings.notify and request.state == "pending":
            line = describe(request, self.store, self.paths)
            self.spawn(notify("Pantry", f"{line}. Answer with: pantry page"))
        return request

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """Run a coroutine beside the requests."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def permit_answer(self, caller: Caller, model: InstalledModel) -> None:
        """Whether the caller may have an answer of this model, and have it loaded for that if it is not yet.

        Raises ForbiddenError, or ApprovalNeededError when the user was asked to let it be loaded.
        """
        self.permit(caller, Action.GENERATE, model.name)
        if caller.kind == "owner" or model.remote or self.is_loaded(model.name):
            return  # at a provider nothing has to be loaded
        name = str(model.name)
        if request := self.permit_or_ask(caller, "load", model.name, {"model": name}):
            raise approval_needed(request, f"{name} is not loaded, and {caller.name} may not load it.")


GATEWAY = web.AppKey("gateway", Gateway)
"""Where handlers find the shared state."""
