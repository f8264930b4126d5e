"""What callers can have done about models, once for every surface: choose, load, unload, download.

The surfaces (native, 2023, window.ai) translate their words into these calls and the results back; permission is
checked here and in the state, nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pantry.access.requests import approved_at_once
from pantry.core.errors import ForbiddenError, ModelNotFoundError, PantryError, UsageError
from pantry.core.permissions import Action, Caller, decide
from pantry.core.refs import ModelName
from pantry.service.jobs import JobRunner
from pantry.service.state import Gateway
from pantry.starter import STARTER
from pantry.store.jobs import Job
from pantry.store.models import InstalledModel, Store
from pantry.store.requests import AppRequest

if TYPE_CHECKING:
    from pantry.selection import Choice, Fallback
    from pantry.selection.selector import Selector

SELECTOR_AGE = 30.0  # seconds after which the catalogue is read again


@dataclass(frozen=True)
class ModelQuery:
    """Which model is wanted: by name, by requirements, or both."""

    model: str | None = None
    mode: Fallback = "none"
    needs: Sequence[str] = ()
    prefer: Sequence[str] = ()


@dataclass(frozen=True)
class Download:
    """A download that was asked for: the request of an app (the owner needs none), and the job once there is one."""

    request: AppRequest | None
    job: Job | None


class ModelService:
    """Chooses, loads, unloads and downloads models for callers that may have it done."""

    def __init__(self, gateway: Gateway, runner: JobRunner) -> None:
        self.gateway, self._runner = gateway, runner
        self._selector: tuple[float, tuple[int, ...], Selector] | None = None

    async def visible(self, caller: Caller) -> list[InstalledModel]:
        """The installed models that the caller may see. Raises ForbiddenError when it may see none at all."""
        self.gateway.permit(caller, Action.VIEW)
        now = time.time()
        found = self.gateway.store.list()
        if STARTER not in {model.name for model in found}:
            with contextlib.suppress(PantryError):  # a policy may not want it; the others are there all the same
                found.append(await self.gateway.model(str(STARTER)))
        return [model for model in found if decide(caller, Action.VIEW, model.name, now=now).allowed]

    async def choose(self, caller: Caller, query: ModelQuery) -> tuple[Choice, InstalledModel | None]:
        """The model that meets a query, and why; None where it is not installed.

        Apps choose among the models they may use. Raises ModelNotFoundError that says what excluded how many.
        """
        from pantry.evaluation.evidence import evidence_of
        from pantry.selection import Request, parse_needs, parse_preferences

        gateway, now = self.gateway, time.time()
        selector = await asyncio.to_thread(self.selector)  # a new catalogue is indexed, the memory measured
        if query.model is not None:
            with contextlib.suppress(ModelNotFoundError):
                await gateway.model(query.model)
        model = str(ModelName.parse(query.model)) if query.model is not None else None
        needs = parse_needs(",".join(query.needs), selector.vocabulary)
        request = Request(needs, parse_preferences(list(query.prefer), selector.vocabulary), query.mode, model)
        usable = [each for each in gateway.store.list() if decide(caller, Action.GENERATE, each.name, now=now).allowed]
        loaded = [str(entry.model.name) for entry in gateway.pool.loaded()]
        choice = selector.choose(request, usable, loaded, evidence_of(gateway.store.database))
        return choice, next((each for each in usable if str(each.name) == choice.model), None)

    def selector(self) -> Selector:
        """The rules of choice over the policy as it is and the catalogue as read lately; loaded at the first choice."""
        from pantry.catalogue.lookup import Catalogue
        from pantry.policy.file import policy_mark
        from pantry.selection.selector import open_selector

        moment, mark = time.monotonic(), policy_mark(self.gateway.paths)
        kept = self._selector
        if kept is None or kept[0] < moment - SELECTOR_AGE or kept[1] != mark:
            catalogue = Catalogue.open(self.gateway.paths)
            made = open_selector(self.gateway.paths, catalogue, room=self.gateway.pool.budget)
            kept = self._selector = (moment, mark, made)
        return kept[2]

    async def load(self, caller: Caller, name: str) -> AppRequest | None:
        """Load a model; None when that is done, else the request that waits for the user.

        For models at a provider loading, unloading and downloading succeed at once.
        """
        model = await self.gateway.model(name)
        request = self.gateway.permit_or_ask(caller, "load", model.name, {"model": str(model.name)})
        if request is None and not model.remote:
            await self.gateway.pool.load(model)
        return self._woken(request)

    async def unload(self, caller: Caller, name: str) -> AppRequest | None:
        """Unload a model; None when that is done, else the request that waits for the user."""
        model = await self.gateway.model(name)
        request = self.gateway.permit_or_ask(caller, "unload", model.name, {"model": str(model.name)})
        if request is None and not model.remote:
            await self.gateway.pool.unload(model.name)
        return self._woken(request)

    async def download(
        self, caller: Caller, name: str, url: str | None = None, entry: Mapping[str, Any] | None = None
    ) -> Download | None:
        """Have a model downloaded, beside the requests; None when it is here.

        Raises ForbiddenError for a URL while the setting url_downloads is off.
        """
        if url is not None and not self.gateway.settings.url_downloads:
            raise ForbiddenError(
                "Downloads from a URL are turned off.", hint="Turn them on with the setting url_downloads."
            )
        model = ModelName.parse(name)
        details = {"model": str(model), **({"url": url} if url else {}), **({"entry": dict(entry)} if entry else {})}
        request = self.gateway.permit_or_ask(caller, "download", model, details)
        if request is None and await self._is_installed(model):
            return None
        if request is None and caller.kind == "owner":
            parameters = {"model": str(model), **({"url": url} if url else {})}
            return Download(None, self._runner.start("pull", parameters))
        request = request or approved_at_once(self.gateway.store.database, caller, "download", details)
        return Download(request, self._runner.job_of(request))

    async def bare_model(self, caller: Caller, name: str) -> tuple[InstalledModel, Path]:
        """The verified file of a model, or the folder of its files, which nobody may write to, to be run elsewhere.

        Raises ForbiddenError, or UsageError for a model at a provider.
        """
        model = await self.gateway.model(name)
        self.gateway.permit(caller, Action.BARE_MODEL, model.name)
        if model.remote:
            raise UsageError(f"{model.name} runs at a provider; there is no file of it here.")

        def verified() -> Path:
            with Store.open(self.gateway.paths) as store:  # SQLite connections belong to their thread
                return store.verified_path(model)

        return model, await asyncio.to_thread(verified)

    async def _is_installed(self, name: ModelName) -> bool:
        with contextlib.suppress(ModelNotFoundError):
            await self.gateway.model(str(name))
            return True
        return False

    def _woken(self, request: AppRequest | None) -> AppRequest | None:
        if request is not None and request.state == "approved":
            self._runner.wake()
        return request
