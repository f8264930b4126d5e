"""The functions of the native API: from a function's name and parameters to values. `/call` and the socket carry them.

Request and reply objects are those of the Pantry README; `id`, `key` and partial replies are additions to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import pkgutil
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pantry.core.errors import NotFoundError, PantryError, UsageError, did_you_mean, reply_of_error
from pantry.core.permissions import Caller
from pantry.service.context import ServiceContext

Value = dict[str, Any]
Stream = AsyncGenerator[Value, None]
T = TypeVar("T")


class Partial(Value):
    """A part of a streamed value."""


@dataclass(frozen=True)
class Function:
    """One function. `run` gives a value, an awaitable one, or a stream of `Partial` values closed by the whole one.

    `takes` are the names of its parameters.
    """

    name: str
    run: Callable[[ServiceContext, Caller, Parameters], Value | Awaitable[Value] | Stream]
    takes: frozenset[str]
    doc: str


_offered: dict[str, Function] = {}


@cache
def functions() -> Mapping[str, Function]:
    """Every function by its name: those that the files `functions_*.py` beside this one offer."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.startswith("functions_"):
            importlib.import_module(f"pantry.service.native.{module.name}")
    return _offered


POLL = 0.1  # seconds between two looks at what is waited for
MAX_WAIT = 60.0  # seconds of one call that waits
_PARTS = ("function", "parameters", "id", "key")


def function(*takes: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Offer a function under its own name, with the names of its parameters."""

    def offer(run: Callable[..., Any]) -> Callable[..., Any]:
        _offered[run.__name__] = Function(run.__name__, run, frozenset(takes), inspect.getdoc(run) or "")
        return run

    return offer


class Parameters:
    """The parameters of one call, read with the type they must have."""

    def __init__(self, function: str, given: Mapping[str, Any]) -> None:
        self._function, self.given = function, given

    def text(self, name: str, longest: int = 1000) -> str:
        """A text that must be there and not be empty. Raises UsageError."""
        value = self.optional_text(name, longest)
        if not value:
            raise UsageError(f"{self._function} needs the parameter {name!r}, a text.")
        return value

    def optional_text(self, name: str, longest: int = 1000) -> str | None:
        """A text of at most `longest` characters, or None. Raises UsageError."""
        value = self.given.get(name)
        if value is None or (isinstance(value, str) and len(value) <= longest):
            return value
        what = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise UsageError(f"{name} of {self._function} is a text of at most {longest} characters; got {what}.")

    def texts(self, name: str) -> list[str]:
        """A list of texts, empty when left out. Raises UsageError."""
        value = self.given.get(name)
        if value is None:
            return []
        if isinstance(value, list) and len(value) <= 64 and all(isinstance(each, str) for each in value):
            return value
        raise UsageError(f"{name} of {self._function} is a list of at most 64 texts.")

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number between bounds. Raises UsageError."""
        value = self.given.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsageError(f"{name} of {self._function} is a number from {low:g} to {high:g}.")
        return value

    def flag(self, name: str) -> bool:
        """A boolean, false when left out. Raises UsageError."""
        value = self.given.get(name, False)
        if not isinstance(value, bool):
            raise UsageError(f"{name} of {self._function} is true or false.")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """An object, empty when left out. Raises UsageError."""
        value = self.given.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise UsageError(f"{name} of {self._function} is an object.")
        return value

    def others(self, names: frozenset[str]) -> dict[str, Any]:
        """The parameters of these names that were given."""
        return {name: value for name, value in self.given.items() if name in names}


async def wait_for(look: Callable[[], T], is_over: Callable[[T], bool], given: Parameters) -> T:
    """What `look` finds once it is over, or when the call's `timeout` seconds (30) are.

    It may be changed by another process, so only looking tells. Raises UsageError for a bad timeout, and what `look`
    raises.
    """
    deadline = time.monotonic() + given.number("timeout", 30, 0, MAX_WAIT)
    while True:
        found = look()
        if is_over(found) or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(POLL)


@dataclass(frozen=True)
class Call:
    """One parsed call. `id` is echoed, `key` says who calls; both may be left out."""

    function: Function
    parameters: Parameters
    id: Any = None
    key: str | None = None


def parse_call(body: Any) -> Call:
    """A call from a JSON object. Raises UsageError, or NotFoundError with the nearest name of a function."""
    if not isinstance(body, dict) or not isinstance(body.get("function"), str):
        raise UsageError('Expected a JSON object like {"function": "handshake", "parameters": {"check": 1}}.')
    for part in body:
        if part not in _PARTS:
            raise UsageError(f"A call has no {part[:60]!r}.", hint=did_you_mean(part[:60], _PARTS))
    name, given = body["function"], body.get("parameters", {})
    known = functions()
    found = known.get(name)
    if found is None:
        hint = did_you_mean(name[:60], known, f"Known: {', '.join(sorted(known))}.")
        raise NotFoundError(f"There is no function {name[:60]!r}.", hint=hint)
    if not isinstance(given, dict):
        raise UsageError("parameters is an object.")
    for parameter in given:
        if parameter not in found.takes:
            listed = ", ".join(sorted(found.takes)) or "none"
            hint = did_you_mean(parameter[:60], found.takes, f"It takes: {listed}.")
            raise UsageError(f"{name} has no parameter {parameter[:60]!r}.", hint=hint)
    id, key = body.get("id"), body.get("key")
    if isinstance(id, dict | list) or (isinstance(id, str) and len(id) > 200):
        raise UsageError("id is a text of at most 200 characters or a number.")
    if key is not None and not isinstance(key, str):
        raise UsageError("key is a text.")
    return Call(found, Parameters(name, given), id, key)


def outcome(service: ServiceContext, caller: Caller, call: Call) -> Value | Awaitable[Value] | Stream:
    """Start a call: a value at once, an awaitable one, or a stream (see Function)."""
    return call.function.run(service, caller, call.parameters)


async def replies(result: Any) -> AsyncGenerator[Value, None]:
    """The reply objects of a started call (what `outcome` gave): partial ones if it streams, then a success or error.

    Close the generator to cancel the call.
    """
    try:
        if isinstance(result, dict):
            yield success(result)
        elif isinstance(result, AsyncGenerator):
            async with contextlib.aclosing(result):
                async for value in result:
                    yield {"status": "partial", "value": value} if isinstance(value, Partial) else success(value)
        else:
            whole: Value = await result
            yield success(whole)
    except PantryError as error:
        yield failure(error)


def success(value: Value) -> Value:
    return {"status": "success", "value": value}


def failure(error: PantryError) -> Value:
    """An error as a reply."""
    return {"status": "error", **reply_of_error(error)}
