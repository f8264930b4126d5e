"""Documents of turns, and how a record of JSONL, Parquet or a dataset becomes one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pantry.core.errors import BadFileError

TEXT = "text"
"""Role of a turn that is not a turn: plain text."""
ROLES = ("system", "user", "assistant")
CONVERSATION = "messages"
"""Field of a record that holds a conversation."""


@dataclass(frozen=True)
class Turn:
    """What one side of a conversation says; with the role `text`, a plain text."""

    role: str
    text: str


Document = tuple[Turn, ...]


def is_conversation(document: Document) -> bool:
    return document[0].role != TEXT


def characters(document: Document) -> int:
    """Characters of all its turns."""
    return sum(len(turn.text) for turn in document)


def own_bytes(document: Document) -> int:
    """Bytes in UTF-8 of what the model is to say, for bits per byte."""
    return sum(len(turn.text.encode()) for turn in document if turn.role in (TEXT, "assistant"))


def to_line(document: Document) -> bytes:
    """The document as one line of JSON, equal for equal documents."""
    return json.dumps([[turn.role, turn.text] for turn in document]).encode() + b"\n"


def from_line(line: bytes) -> Document:
    """The document of a line by `to_line`."""
    return tuple(Turn(role, text) for role, text in json.loads(line))


def read_record(record: Any, text_field: str, where: str) -> Iterator[Document]:
    """The document of a record, or none when its text is empty. Raises BadFileError that begins with `where`."""
    if isinstance(record, dict) and isinstance(record.get(CONVERSATION), list):
        yield _conversation(record[CONVERSATION], where)
    elif isinstance(record, dict) and isinstance(record.get(text_field), str):
        if text := _clean_text(record[text_field], where).strip("\n"):
            yield (Turn(TEXT, text),)
    else:
        found = ", ".join(map(repr, record)) if isinstance(record, dict) else type(record).__name__
        raise BadFileError(
            f"{where}: expected an object with {text_field!r} (a text) or 'messages' (a list); found {found[:200]}.",
            hint='Name the field with the text in the settings: text_field = "..."',
        )


def _conversation(messages: list[Any], where: str) -> Document:
    turns = []
    for number, message in enumerate(messages, 1):
        role = message.get("role") if isinstance(message, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        if role not in ROLES or not isinstance(content, str):
            raise BadFileError(
                f"{where}, message {number}: expected a role ({', '.join(ROLES)}) and a content, "
                f"got {str(message)[:120]}."
            )
        turns.append(Turn(role, _clean_text(content, where)))
    if not any(turn.role == "assistant" and turn.text for turn in turns):
        raise BadFileError(f"{where}: a conversation without an answer of the assistant teaches nothing.")
    return tuple(turns)


def _clean_text(text: str, where: str) -> str:
    """Text from JSON; half a surrogate pair (`\\ud800`) is not text."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadFileError(f"{where}: half a surrogate pair at character {error.start}.") from None
    return text
