"""The client: finds the service, registers as an app where asked to, waits for the user's approval.

The synchronous client is made from this file by `python -m pantry.client._unasync`; edit here only.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pantry.client import _keys
from pantry.client._transport_async import AsyncTransport
from pantry.client._wire import PROBE_TIMEOUT, addresses, is_pantry, not_running
from pantry.client.records import Choice, Handshake, Identity, Model, Reply, Request
from pantry.core.errors import (
    ApprovalNeededError,
    ForbiddenError,
    PantryError,
    UnauthorisedError,
    UsageError,
    error_from_reply,
)
from pantry.core.paths import Paths, find_paths

OnWait = Callable[[Request], None]
"""Told of a request that waits for the user, at once and every few seconds, and when its state changes."""
LOOK_EVERY = 2.0  # seconds between two calls of an OnWait


class AsyncClient:
    """A program's way to the service.

    Without `app` it speaks as the owner (over the Unix socket, or with the owner's key). With `app` it has a key of
    its own, registered at first use and kept in the user's configuration; `permissions` it lacks are asked of the
    user, and the first call waits for the answer. `address` is a URL or the path of a call socket; it is found when
    left out. `on_wait` is told what the user is being asked.
    """

    def __init__(
        self,
        app: str | None = None,
        *,
        permissions: Sequence[str] = (),
        reason: str | None = None,
        address: str | None = None,
        key: str | None = None,
        on_wait: OnWait | None = None,
        paths: Paths | None = None,
    ) -> None:
        self._app, self._permissions, self._reason = app, tuple(permissions), reason
        self._address, self._key, self._on_wait = address, key, on_wait
        self._paths = paths or find_paths()
        self._transport: AsyncTransport | None = None

    async def __aenter__(self) -> AsyncClient:
        await self._connected()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._transport = None

    # About the service and this program

    async def handshake(self) -> Handshake:
        """Who answers."""
        return Handshake.parse(await self._call("handshake", check=secrets.randbelow(2**31)))

    async def whoami(self) -> Identity:
        """Who this program is to the service, and what it may do."""
        return Identity.parse(await self._call("whoami"))

    async def request_permissions(self, *permissions: str, reason: str | None = None) -> Request:
        """Ask the user for permissions; `wait` for the request to learn the answer."""
        return Request.parse(await self._call("request_permissions", permissions=permissions, reason=reason))

    async def request(self, id: str) -> Request:
        """A request as it stands. Raises NotFoundError."""
        return Request.parse(await self._call("get_request", request=id))

    async def requests(self) -> list[Request]:
        """What this program asked for."""
        return [Request.parse(each) for each in (await self._call("list_requests"))["requests"]]

    async def wait(self, request: Request | str, timeout: float | None = None) -> Request:
        """Wait until a request is complete, or `timeout` seconds (for ever when None); the request then."""
        id = request if isinstance(request, str) else request.id
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_EVERY if deadline is None else min(LOOK_EVERY, max(0.0, deadline - time.monotonic()))
            found = Request.parse(await self._call("get_request", request=id))
            if self._on_wait is not None:
                self._on_wait(found)
            if not found.complete and left > 0:
                found = Request.parse(await self._call("wait_request", request=id, timeout=left))
            if found.complete or (deadline is not None and time.monotonic() >= deadline):
                if self._on_wait is not None and found.complete:
                    self._on_wait(found)
                return found

    # Models

    async def choose(self, *requirements: str, prefer: Sequence[str] = (), model: str | None = None) -> Choice:
        """Which installed model meets the requirements (`"CODING"`, `"context>=8192"`), and why."""
        value = await self._call(
            "choose",
            preferred_model=model,
            fallback_mode="requirements_load",
            model_requirements=list(requirements),
            prefer=list(prefer),
        )
        return Choice.parse(value)

    async def models(self) -> list[Model]:
        """The installed models that this program may see."""
        return [Model.parse(each) for each in (await self._call("list_models"))["models"]]

    async def load(self, model: str) -> None:
        """Load a model, waiting for the user where that is needed. Raises ForbiddenError when refused."""
        await self._settled(await self._call("load_llm", model=model))

    async def unload(self, model: str) -> None:
        """Unload a model, waiting for the user where that is needed. Raises ForbiddenError when refused."""
        await self._settled(await self._call("unload_llm", model=model))

    async def request_download(self, model: str, *, url: str | None = None) -> Request | None:
        """Have a model downloaded; None when no request is needed: it is there, or the owner's download has begun."""
        value = await self._call("download_model", model=model, url=url)
        return Request.parse(value["request"]) if "request" in value else None

    async def download(self, model: str, *, url: str | None = None) -> None:
        """Have a model downloaded and wait for it. Raises ForbiddenError when the user refuses, or it fails."""
        await self._settled(await self._call("download_model", model=model, url=url))

    async def bare_model(self, model: str) -> Path:
        """The path of a model's verified, read-only file."""
        return Path(str((await self._call("bare_model", model=model))["path"]))

    # Text

    async def chat(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        requirements: Sequence[str] = (),
        system: str | None = None,
        **parameters: Any,
    ) -> Reply:
        """A whole answer to a prompt or to messages. `parameters` are those of generation (max_tokens, seed, ...)."""
        call = _ask(prompt, model, requirements, system, parameters)
        return Reply.parse(await self._approved("call_llm", call))

    async def stream(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        requirements: Sequence[str] = (),
        system: str | None = None,
        **parameters: Any,
    ) -> AsyncGenerator[str, None]:
        """As `chat`, in pieces as they are written. Closing the generator stops the engine."""
        call = _ask(prompt, model, requirements, system, parameters) | {"stream": True}
        async with contextlib.aclosing(self._streamed("call_llm", call)) as pieces:
            async for text in pieces:
                yield text

    async def session(
        self,
        *,
        model: str | None = None,
        requirements: Sequence[str] = (),
        system: str | None = None,
        **parameters: Any,
    ) -> AsyncSession:
        """Start a conversation whose history the service keeps."""
        value = await self._call("create_session", **_wish(model, requirements), system=system, **parameters)
        return AsyncSession(self, value["session"], value["model"])

    async def sessions(self) -> list[AsyncSession]:
        """This program's conversations, the last used first."""
        found = (await self._call("list_sessions"))["sessions"]
        return [AsyncSession(self, each["session"], each["model"]) for each in found]

    async def resume(self, session: str) -> AsyncSession:
        """A conversation by its id. Raises NotFoundError."""
        value = await self._call("get_session", session=session)
        return AsyncSession(self, value["session"], value["model"])

    # Underneath

    async def _call(self, function: str, **parameters: Any) -> dict[str, Any]:
        return await (await self._connected()).call(function, parameters)

    async def _approved(self, function: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A call; when the user is asked on the way, wait for the answer and call again."""
        transport = await self._connected()
        while True:
            try:
                return await transport.call(function, parameters)
            except ApprovalNeededError as error:
                await self._granted(error)

    async def _streamed(self, function: str, parameters: Mapping[str, Any]) -> AsyncGenerator[str, None]:
        transport = await self._connected()
        while True:
            try:
                async with contextlib.aclosing(transport.stream(function, parameters)) as replies:
                    async for last, value in replies:
                        if not last:
                            yield value["text"]
                return
            except ApprovalNeededError as error:
                await self._granted(error)

    async def _granted(self, error: ApprovalNeededError) -> None:
        """Wait for the user's answer to what `error` tells. Raises it when that is no."""
        if not error.request_id or not (await self.wait(error.request_id)).accepted:
            raise error

    async def _settled(self, value: Mapping[str, Any]) -> None:
        """Wait until what a reply says is asked or being done is done. Raises ForbiddenError, or why a job failed."""
        if "request" in value:
            done = await self.wait(Request.parse(value["request"]))
            if not done.accepted:
                raise ForbiddenError(f"The request to {done.kind} was not fulfilled: {done.outcome}.")
        elif "job" in value:
            job = value["job"]
            while not job["ended"]:
                job = await self._call("wait_job", job=job["id"])
            if job["error"]:
                raise error_from_reply(job["error"])
            if job["state"] != "done":
                raise ForbiddenError(f"The {job['kind']} of {job['title']} was {job['state']}.")

    async def _connected(self) -> AsyncTransport:
        if self._transport is None:
            transport = await self._found()
            transport.key = self._key
            if self._app is not None and self._key is None:
                transport.key = await self._registered(transport, self._app)
            elif self._key is None and transport.address.socket is None:
                transport.key = _keys.owner_key(self._paths)
            self._transport = transport
            await self._permitted()
        return self._transport

    async def _found(self) -> AsyncTransport:
        """The first address that answers the handshake as Pantry. Raises ServiceUnavailableError."""
        for address in addresses(self._paths, self._address):
            transport, check = AsyncTransport(address), secrets.randbelow(2**31)
            with contextlib.suppress(PantryError):
                value = await transport.call("handshake", {"check": check}, timeout=PROBE_TIMEOUT)
                if is_pantry(value, check):
                    return transport
        raise not_running()

    async def _registered(self, transport: AsyncTransport, app: str) -> str:
        """The key kept for this app, if it still works; else that of a new registration."""
        kept = _keys.load_key(self._paths, app)
        if kept is not None:
            try:
                await AsyncTransport(transport.address, kept).call("whoami", {})
                return kept
            except UnauthorisedError:
                _keys.forget_key(self._paths, app)
        key = str((await transport.call("register_app", {"name": app}))["key"])
        _keys.save_key(self._paths, app, key)
        return key

    async def _permitted(self) -> None:
        """Ask for the permissions that are missing and wait for the user. Raises ForbiddenError when refused."""
        if not self._permissions:
            return
        missing = sorted(set(self._permissions) - (await self.whoami()).permissions)
        if missing:
            asked = await self.request_permissions(*missing, reason=self._reason)
            if not (await self.wait(asked)).accepted:
                self._transport = None
                raise ForbiddenError(f"The user refused the permissions {', '.join(missing)}.")


class AsyncSession:
    """A conversation whose history the service keeps. Its id resumes it later."""

    def __init__(self, client: AsyncClient, id: str, model: str) -> None:
        self._client, self.id, self.model = client, id, model

    async def say(self, prompt: str, **parameters: Any) -> Reply:
        """Say something; the whole answer."""
        call = {"session": self.id, "prompt": prompt, **parameters}
        return Reply.parse(await self._client._approved("call_session", call))

    async def stream(self, prompt: str, **parameters: Any) -> AsyncGenerator[str, None]:
        """Say something; the answer in pieces. Closing the generator stops the engine; what was written is kept."""
        call = {"session": self.id, "prompt": prompt, "stream": True, **parameters}
        async with contextlib.aclosing(self._client._streamed("call_session", call)) as pieces:
            async for text in pieces:
                yield text

    async def messages(self) -> list[dict[str, str]]:
        """The history."""
        return list((await self._client._call("get_session", session=self.id))["messages"])

    async def interrupt(self) -> bool:
        """Stop the answer being written, from wherever it is read; False when none is."""
        return bool((await self._client._call("interrupt_session", session=self.id))["interrupted"])

    async def delete(self) -> None:
        """Delete the conversation."""
        await self._client._call("delete_session", session=self.id)


def _wish(model: str | None, requirements: Sequence[str]) -> dict[str, Any]:
    """Which model: the one named, or any that meets the requirements."""
    if isinstance(requirements, str):
        raise UsageError("requirements is a list of texts.")
    mode = "load" if model is not None and not requirements else "requirements_load"
    return {"preferred_model": model, "fallback_mode": mode, "model_requirements": list(requirements)}


def _ask(
    prompt: str | Sequence[Mapping[str, Any]],
    model: str | None,
    requirements: Sequence[str],
    system: str | None,
    parameters: Mapping[str, Any],
) -> dict[str, Any]:
    said = {"prompt": prompt} if isinstance(prompt, str) else {"messages": list(prompt)}
    return {**_wish(model, requirements), **said, "system": system, **parameters}
