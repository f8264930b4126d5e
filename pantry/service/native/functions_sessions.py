"""Functions about sessions: conversations whose history the service keeps."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

from pantry.core.permissions import Action, Caller
from pantry.service.context import ServiceContext
from pantry.service.generation.request import SAMPLING
from pantry.service.generation.text import Completion
from pantry.service.native.calls import Parameters, Partial, Stream, Value, function
from pantry.service.native.functions_models import MAX_PROMPT, parse_query
from pantry.service.records import answer_object
from pantry.store.sessions import Session


@function("preferred_model", "fallback_mode", "model_requirements", "prefer", "system", *SAMPLING)
async def create_session(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Start a conversation that the service keeps, with a model chosen as in call_llm."""
    service.gateway.permit(caller, Action.GENERATE)
    choice, found = await service.models.choose(caller, parse_query(given))
    model = found or await service.gateway.model(choice.model)
    system = given.optional_text("system", MAX_PROMPT)
    session = await service.sessions.create(caller, model, given.others(SAMPLING), system)
    return session_object(session) | {"choice": choice.to_json()}


@function("session", "prompt", "stream", *SAMPLING)
async def call_session(service: ServiceContext, caller: Caller, given: Parameters) -> Stream:
    """Say something in a session; the answer and the history are kept."""
    prompt = given.text("prompt", MAX_PROMPT)
    session, stream, completion = given.text("session"), given.flag("stream"), Completion()
    model = await service.gateway.model(str(service.sessions.book.get(caller.app, session).model))
    pieces = service.sessions.say(caller, session, prompt, given.others(SAMPLING), completion)
    async with contextlib.aclosing(pieces):
        async for text in pieces:
            if stream:
                yield Partial(text=text)
    yield answer_object(model, completion) | {"session": session}


@function()
def list_sessions(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """The caller's sessions, the last used first."""
    service.gateway.permit(caller, Action.GENERATE)
    return {"sessions": [session_object(each) for each in service.sessions.book.of_app(caller.app)]}


@function("session")
async def get_session(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """One session with its history."""
    service.gateway.permit(caller, Action.GENERATE)
    session = service.sessions.book.get(caller.app, given.text("session"))
    await service.sessions.unlock()
    return session_object(session) | {"messages": service.sessions.book.messages(session)}


@function("session")
def interrupt_session(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Stop the answer that a session is writing; what was written is kept."""
    service.gateway.permit(caller, Action.GENERATE)
    return {"session": given.text("session"), "interrupted": service.sessions.interrupt(caller, given.text("session"))}


@function("session")
def delete_session(service: ServiceContext, caller: Caller, given: Parameters) -> Value:
    """Delete a session with its history."""
    service.gateway.permit(caller, Action.GENERATE)
    session = service.sessions.book.get(caller.app, given.text("session"))
    service.sessions.delete(caller, session.id)
    return {"session": session.id, "deleted": True}


def session_object(session: Session) -> dict[str, Any]:
    """A session as replies carry it; `size` in bytes, times RFC 3339."""
    return {
        "session": session.id,
        "model": str(session.model),
        "parameters": session.parameters,
        "started_at": rfc3339(session.started_at),
        "last_used": rfc3339(session.last_used),
        "size": session.size,
    }


def rfc3339(moment: float) -> str:
    """Seconds since 1970 as RFC 3339 text in UTC."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat(timespec="milliseconds")
