"""The client: finds the service, registers as an app where asked to, waits for the user's approval.

Made from `_client_async.py` by `python -m pantry.client._unasync`; edit that file.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pantry.client import _keys
from pantry.client._transport_sync import Transport
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


class Client:
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
        self._transport: Transport | None = None

    def __enter__(self) -> Client:
        self._connected()
        return self

    def __exit__(self, *_: object) -> None:
        self._transport = None

    # About the service and this program

    def handshake(self) -> Handshake:
        """Who answers."""
        return Handshake.parse(self._call("handshake", check=secrets.randbelow(2**31)))

    def whoami(self) -> Identity:
        """Who this program is to the service, and what it may do."""
        return Identity.parse(self._call("whoami"))

    def request_permissions(self, *permissions: str, reason: str | None = None) -> Request:
        """Ask the user for permissions; `wait` for the request to learn the answer."""
        return Request.parse(self._call("request_permissions", permissions=permissions, reason=reason))

    def request(self, id: str) -> Request:
        """A request as it stands. Raises NotFoundError."""
        return Request.parse(self._call("get_request", request=id))

    def requests(self) -> list[Request]:
        """What this program asked for."""
        return [Request.parse(each) for each in self._call("list_requests")["requests"]]

    def wait(self, request: Request | str, timeout: float | None = None) -> Request:
        """Wait until a request is complete, or `timeout` seconds (for ever when None); the request then."""
        id = request if isinstance(request, str) else request.id
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            left = LOOK_EVERY if deadline is None else min(LOOK_EVERY, max(0.0, deadline - time.monotonic()))
            found = Request.parse(self._call("get_request", request=id))
            if self._on_wait is not None:
                self._on_wait(found)
            if not found.complete and left > 0:
                found = Request.parse(self._call("wait_request", request=id, timeout=left))
            if found.complete or (deadline is not None and time.monotonic() >= deadline):
                if self._on_wait is not None and found.complete:
                    self._on_wait(found)
                return found

    # Models

    def choose(self, *requirements: str, prefer: Sequence[str] = (), model: str | None = None) -> Choice:
        """Which installed model meets the requirements (`"CODING"`, `"context>=8192"`), and why."""
        value = self._call(
            "choose",
            preferred_model=model,
            fallback_mode="requirements_load",
            model_requirements=list(requirements),
            prefer=list(prefer),
        )
        return Choice.parse(value)

    def models(self) -> list[Model]:
        """The installed models that this program may see."""
        return [Model.parse(each) for each in self._call("list_models")["models"]]

    def load(self, model: str) -> None:
        """Load a model, waiting for the user where that is needed. Raises ForbiddenError when refused."""
        self._settled(self._call("load_llm", model=model))

    def unload(self, model: str) -> None:
        """Unload a model, waiting for the user where that is needed. Raises ForbiddenError when refused."""
        self._settled(self._call("unload_llm", model=model))

    def request_download(self, model: str, *, url: str | None = None) -> Request | None:
        """Have a model downloaded; None when no request is needed: it is there, or the owner's download has begun."""
        value = self._call("download_model", model=model, url=url)
        return Request.parse(value["request"]) if "request" in value else None

    def download(self, model: str, *, url: str | None = None) -> None:
        """Have a model downloaded and wait for it. Raises ForbiddenError when the user refuses, or it fails."""
        self._settled(self._call("download_model", model=model, url=url))

    def bare_model(self, model: str) -> Path:
        """The path of a model's verified, read-only file."""
        return Path(str(self._call("bare_model", model=model)["path"]))

    # Text

    def chat(
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
        return Reply.parse(self._approved("call_llm", call))

    def stream(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        model: str | None = None,
        requirements: Sequence[str] = (),
        system: str | None = None,
        **parameters: Any,
    ) -> Generator[str, None, None]:
        """As `chat`, in pieces as they are written. Closing the generator stops the engine."""
        call = _ask(prompt, model, requirements, system, parameters) | {"stream": True}
        with contextlib.closing(self._streamed("call_llm", call)) as pieces:
            yield from pieces

    def session(
        self,
        *,
        model: str | None = None,
        requirements: Sequence[str] = (),
        system: str | None = None,
        **parameters: Any,
    ) -> Session:
        """Start a conversation whose history the service keeps."""
        value = self._call("create_session", **_wish(model, requirements), system=system, **parameters)
        return Session(self, value["session"], value["model"])

    def sessions(self) -> list[Session]:
        """This program's conversations, the last used first."""
        found = self._call("list_sessions")["sessions"]
        return [Session(self, each["session"], each["model"]) for each in found]

    def resume(self, session: str) -> Session:
        """A conversation by its id. Raises NotFoundError."""
        value = self._call("get_session", session=session)
        return Session(self, value["session"], value["model"])

    # Underneath

    def _call(self, function: str, **parameters: Any) -> dict[str, Any]:
        return self._connected().call(function, parameters)

    def _approved(self, function: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """A call; when the user is asked on the way, wait for the answer and call again."""
        transport = self._connected()
        while True:
            try:
                return transport.call(function, parameters)
            except ApprovalNeededError as error:
                self._granted(error)

    def _streamed(self, function: str, parameters: Mapping[str, Any]) -> Generator[str, None, None]:
        transport = self._connected()
        while True:
            try:
                with contextlib.closing(transport.stream(function, parameters)) as replies:
                    for last, value in replies:
                        if not last:
                            yield value["text"]
                return
            except ApprovalNeededError as error:
                self._granted(error)

    def _granted(self, error: ApprovalNeededError) -> None:
        """Wait for the user's answer to what `error` tells. Raises it when that is no."""
        if not error.request_id or not (self.wait(error.request_id)).accepted:
            raise error

    def _settled(self, value: Mapping[str, Any]) -> None:
        """Wait until what a reply says is asked or being done is done. Raises ForbiddenError, or why a job failed."""
        if "request" in value:
            done = self.wait(Request.parse(value["request"]))
            if not done.accepted:
                raise ForbiddenError(f"The request to {done.kind} was not fulfilled: {done.outcome}.")
        elif "job" in value:
            job = value["job"]
            while not job["ended"]:
                job = self._call("wait_job", job=job["id"])
            if job["error"]:
                raise error_from_reply(job["error"])
            if job["state"] != "done":
                raise ForbiddenError(f"The {job['kind']} of {job['title']} was {job['state']}.")

    def _connected(self) -> Transport:
        if self._transport is None:
            transport = self._found()
            transport.key = self._key
            if self._app is not None and self._key is None:
                transport.key = self._registered(transport, self._app)
            elif self._key is None and transport.address.socket is None:
                transport.key = _keys.owner_key(self._paths)
            self._transport = transport
            self._permitted()
        return self._transport

    def _found(self) -> Transport:
        """The first address that answers the handshake as Pantry. Raises ServiceUnavailableError."""
        for address in addresses(self._paths, self._address):
            transport, check = Transport(address), secrets.randbelow(2**31)
            with contextlib.suppress(PantryError):
                value = transport.call("handshake", {"check": check}, timeout=PROBE_TIMEOUT)
                if is_pantry(value, check):
                    return transport
        raise not_running()

    def _registered(self, transport: Transport, app: str) -> str:
        """The key kept for this app, if it still works; else that of a new registration."""
        kept = _keys.load_key(self._paths, app)
        if kept is not None:
            try:
                Transport(transport.address, kept).call("whoami", {})
                return kept
            except UnauthorisedError:
                _keys.forget_key(self._paths, app)
        key = str((transport.call("register_app", {"name": app}))["key"])
        _keys.save_key(self._paths, app, key)
        return key

    def _permitted(self) -> None:
        """Ask for the permissions that are missing and wait for the user. Raises ForbiddenError when refused."""
        if not self._permissions:
            return
        missing = sorted(set(self._permissions) - (self.whoami()).permissions)
        if missing:
            asked = self.request_permissions(*missing, reason=self._reason)
            if not (self.wait(asked)).accepted:
                self._transport = None
                raise ForbiddenError(f"The user refused the permissions {', '.join(missing)}.")


class Session:
    """A conversation whose history the service keeps. Its id resumes it later."""

    def __init__(self, client: Client, id: str, model: str) -> None:
        self._client, self.id, self.model = client, id, model

    def say(self, prompt: str, **parameters: Any) -> Reply:
        """Say something; the whole answer."""
        call = {"session": self.id, "prompt": prompt, **parameters}
        return Reply.parse(self._client._approved("call_session", call))

    def stream(self, prompt: str, **parameters: Any) -> Generator[str, None, None]:
        """Say something; the answer in pieces. Closing the generator stops the engine; what was written is kept."""
        call = {"session": self.id, "prompt": prompt, "stream": True, **parameters}
        with contextlib.closing(self._client._streamed("call_session", call)) as pieces:
            yield from pieces

    def messages(self) -> list[dict[str, str]]:
        """The history."""
        return list((self._client._call("get_session", session=self.id))["messages"])

    def interrupt(self) -> bool:
        """Stop the answer being written, from wherever it is read; False when none is."""
        return bool((self._client._call("interrupt_session", session=self.id))["interrupted"])

    def delete(self) -> None:
        """Delete the conversation."""
        self._client._call("delete_session", session=self.id)


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
