"""Functions about sessions: conversations whose history the service keeps."""

from __future__ import annotations

import contextlib
import datetime
from typing import Any

from pantry.core.permissions import Action, Caller
from pantry.service.models import SAMPLING, Completion, Desk
from pantry.service.native.calls import Parameters, Partial, Stream, Value, function
from pantry.service.native.functions_models import MAX_PROMPT, parse_query
from pantry.service.records import answer_object
from pantry.store.sessions import Session


@function("preferred_model", "fallback_mode", "model_requirements", "prefer", "system", *SAMPLING)
async def create_session(desk: Desk, caller: Caller, given: Parameters) -> Value:
    """Start a conversation that the service keeps, with a model chosen as in call_llm."""
    desk.gateway.permit(caller, Action.GENERATE)
    choice, found = await desk.choose(caller, parse_query(given))
    model = found or await desk.gateway.model(choice.model)
    system = given.optional_text("system", MAX_PROMPT)
    session = await desk.create_session(caller, model, given.others(SAMPLING), system)
    return session_object(session) | {"choice": choice.to_json()}


@function("session", "prompt", "stream", *SAMPLING)
async def call_session(desk: Desk, caller: Caller, given: Parameters) -> Stream:
    """Say something in a session; the answer and the history are kept."""
    prompt = given.text("prompt", MAX_PROMPT)
    session, stream, written = given.text("session"), given.flag("stream"), Completion()
    model = await desk.gateway.model(str(desk.sessions.get(caller.app, session).model))
    pieces = desk.say(caller, session, prompt, given.others(SAMPLING), written)
    async with contextlib.aclosing(pieces):
        async for text in pieces:
            if stream:
                yield Partial(text=text)
    yield answer_object(model, written) | {"session": session}


@function()
def list_sessions(desk: Desk, caller: Caller, given: Parameters) -> Value:
    """The caller's sessions, the last used first."""
    desk.gateway.permit(caller, Action.GENERATE)
    return {"sessions": [session_object(each) for each in desk.sessions.of_app(caller.app)]}


@function("session")
async def get_session(desk: Desk, caller: Caller, given: Parameters) -> Value:
    """One session with its history."""
    desk.gateway.permit(caller, Action.GENERATE)
    session = desk.sessions.get(caller.app, given.text("session"))
    await desk.unlock_sessions()
    return session_object(session) | {"messages": desk.sessions.messages(session)}


@function("session")
def interrupt_session(desk: Desk, caller: Caller, given: Parameters) -> Value:
    """Stop the answer that a session is writing; what was written is kept."""
    desk.gateway.permit(caller, Action.GENERATE)
    return {"session": given.text("session"), "interrupted": desk.interrupt(caller, given.text("session"))}


@function("session")
def delete_session(desk: Desk, caller: Caller, given: Parameters) -> Value:
    """Delete a session with its history."""
    desk.gateway.permit(caller, Action.GENERATE)
    session = desk.sessions.get(caller.app, given.text("session"))
    desk.delete_session(caller, session.id)
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
