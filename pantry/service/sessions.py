"""Conversations that the service keeps for its callers: start one, say something, interrupt, delete."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from pantry.core.errors import ConflictError, PantryError
from pantry.core.permissions import Action, Caller
from pantry.service.generation.request import parse_sampling
from pantry.service.generation.text import Completion, write
from pantry.service.session_store import Message, SessionBook
from pantry.service.state import Gateway
from pantry.store.models import InstalledModel
from pantry.store.sessions import Session

MAX_PIECES = 64  # of an answer that wait for a slow reader


class SessionService:
    """The sessions of all callers. An app reaches its own alone; the owner those without an app."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.book = SessionBook(gateway.store.database, gateway.settings)
        self._talking: dict[str, asyncio.Task[None]] = {}

    async def create(
        self, caller: Caller, model: InstalledModel, parameters: Mapping[str, Any], system: str | None = None
    ) -> Session:
        """Start a conversation that the service keeps. Raises ForbiddenError, or UsageError for a bad parameter."""
        self._gateway.permit(caller, Action.GENERATE, model.name)
        parse_sampling(parameters).schema_wanted()
        await self.unlock()
        return self.book.create(caller.app, model.name, _stated(parameters), system)

    async def unlock(self) -> None:
        """Have the key of encrypted sessions ready; a keyring that asks its user holds up this caller only."""
        await asyncio.to_thread(self.book.unlock)

    async def say(
        self, caller: Caller, id: str, prompt: str, parameters: Mapping[str, Any], completion: Completion
    ) -> AsyncGenerator[str, None]:
        """The answer to the next turn of a session, in pieces.

        The turn is kept when its answer is complete, was interrupted, or its reader left; not when it failed. Raises
        ConflictError while another turn is being answered.
        """
        session = self.book.get(caller.app, id)
        await self.unlock()
        model = await self._gateway.model(str(session.model))
        if session.id in self._talking:
            raise ConflictError("This session is answering already.", hint="Wait, or use interrupt_session.")
        history = [*self.book.messages(session), {"role": "user", "content": prompt}]
        given = {**session.parameters, **_stated(parameters)}
        pieces: asyncio.Queue[str | PantryError | None] = asyncio.Queue(MAX_PIECES)
        task = asyncio.create_task(self._pump(caller, model, history, given, completion, pieces))
        self._talking[session.id] = task
        failed = False
        try:
            while (piece := await _next_piece(pieces, task)) is not None:
                if isinstance(piece, PantryError):
                    failed = True
                    raise piece
                yield piece
            if not task.cancelled():
                failed = task.exception() is not None
                task.result()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            del self._talking[session.id]
            if not failed and (completion.parts or completion.finish_reason):
                self.book.record(session, prompt, completion.text)

    async def _pump(
        self,
        caller: Caller,
        model: InstalledModel,
        history: list[Message],
        parameters: Mapping[str, Any],
        completion: Completion,
        pieces: asyncio.Queue[str | PantryError | None],
    ) -> None:
        """Write an answer into a queue, in a task of its own so that it can be interrupted from elsewhere."""
        try:
            async with contextlib.aclosing(
                write(self._gateway, caller, model, history, parameters, completion)
            ) as stream:
                async for text in stream:
                    await pieces.put(text)
        except PantryError as error:
            await pieces.put(error)
        else:
            await pieces.put(None)

    def interrupt(self, caller: Caller, id: str) -> bool:
        """Stop the answer a session is writing; what was written is kept. False when it writes none."""
        session = self.book.get(caller.app, id)
        task = self._talking.get(session.id)
        if task is None or task.done():
            return False
        task.cancel()
        return True

    def delete(self, caller: Caller, id: str) -> None:
        """Stop and delete a session. Raises NotFoundError."""
        self.interrupt(caller, id)
        self.book.delete(caller.app, id)


def _stated(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that say something: None is as if left out."""
    return {name: value for name, value in parameters.items() if value is not None}


async def _next_piece(pieces: asyncio.Queue[str | PantryError | None], task: asyncio.Task[None]) -> Any:
    """The next piece, None at the end; also when the task was interrupted and nothing more will come."""
    if pieces.empty() and not task.done():
        waiting = asyncio.create_task(pieces.get())
        try:
            await asyncio.wait({waiting, task}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
        finally:
            waiting.cancel()
    return None if pieces.empty() else pieces.get_nowait()
