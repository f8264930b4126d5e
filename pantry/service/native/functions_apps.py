"""Functions about the service and the caller itself: handshake, registering, permissions, requests."""

from __future__ import annotations

import time

from pantry import __version__
from pantry.access.requests import ask_for_permissions, own_request
from pantry.core.errors import UnauthorisedError, UsageError
from pantry.core.permissions import Caller, Permission
from pantry.service.context import ServiceContext
from pantry.service.native.calls import Parameters, Value, function, wait_for
from pantry.service.records import request_object
from pantry.store.apps import Apps
from pantry.store.requests import AppRequest, Requests

PROTOCOLS = ("call/1",)


@function("check")
def handshake(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Say who answers. Echoes `check`; needs no key."""
    check = given.given.get("check")
    if check is not None and (isinstance(check, bool) or not isinstance(check, int)):
        raise UsageError("check of handshake is a whole number.")
    return {
        "check": check,
        "name": "pantry",
        "version": __version__,
        "protocols": PROTOCOLS,
        "auth": "none" if caller.kind == "owner" else "key",
        "caller": caller.kind,
        "register": service.gateway.settings.register_apps,
    }


@function("name")
def register_app(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Register a program. Gives its key, this once; needs no key."""
    app, key = service.registrar.register(given.text("name"))
    return {"app": app.id, "name": app.name, "key": key}


@function()
def whoami(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Say who calls and what they may do."""
    if caller.kind == "nobody":
        raise UnauthorisedError("A key is needed for this.", hint="Register with the function register_app.")
    if caller.app is None:
        return {"kind": caller.kind, "name": caller.name, "permissions": [each.value for each in Permission]}
    app, now = Apps(service.gateway.store.database).get(caller.app), time.time()
    held = {name: grant for name, grant in app.grants.items() if not grant.expired(now)}
    return {
        "kind": "app",
        "app": app.id,
        "name": app.name,
        "permissions": [name.value for name in held],
        "limits": {
            name.value: {"models": grant.models, "expires_at": grant.expires_at} for name, grant in held.items()
        },
        "tokens_per_day": app.tokens_per_day,
        "used_today": app.used_today + service.gateway.usage.waiting(app.id),
    }


@function("permissions", "reason")
def request_permissions(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Ask the user for permissions. Gives the request."""
    _needs_app(caller)
    wanted = [Permission.parse(name) for name in given.texts("permissions")]
    gateway = service.gateway
    reason = given.optional_text("reason") or ""
    made = ask_for_permissions(gateway.store.database, gateway.settings, caller, wanted, reason)
    return request_object(service, gateway.announce(made))


@function("request")
def get_request(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """One request of the caller's: what became of it."""
    return request_object(service, _request(service, caller, given))


@function("request", "timeout")
async def wait_request(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """As get_request, but answers only when the request is complete or `timeout` seconds (30) are over."""
    found = await wait_for(lambda: _request(service, caller, given), lambda request: request.complete, given)
    return request_object(service, found)


@function()
def list_requests(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """The requests of the calling app; the owner sees those of all."""
    if caller.kind == "nobody":
        raise UnauthorisedError("A key is needed for this.", hint="Register with the function register_app.")
    found = Requests(service.gateway.store.database).list(app=caller.app)
    return {"requests": [request_object(service, each) for each in found]}


def _request(service: ServiceContext, caller: Caller, given: Parameters) -> AppRequest:
    return own_request(service.gateway.store.database, caller, given.text("request"))


def _needs_app(caller: Caller) -> None:
    if caller.kind == "nobody":
        raise UnauthorisedError("A key is needed for this.", hint="Register with the function register_app.")
    if caller.app is None:
        raise UsageError("The owner may do everything already; only apps ask for permissions.")
