"""A conversation: its messages, and what happens to them when an answer fails or is cut off."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from pantry.client.connection import ServiceConnection
from pantry.client.generate import Figures, Message, Sampling, generate
from pantry.core.errors import PantryError
from pantry.core.files import write_atomically


@dataclass
class Conversation:
    """The history sent with each turn. A turn that fails leaves it as it was."""

    connection: ServiceConnection
    model: str
    sampling: Sampling
    system: str | None = None
    messages: list[Message] = field(default_factory=list)

    def say(self, text: str, figures: Figures) -> Generator[str, None, None]:
        """Send a turn and yield the answer's pieces; closing the iterator early keeps what was written so far."""
        turn: Message = {"role": "user", "content": text}
        system: list[Message] = [{"role": "system", "content": self.system}] if self.system else []
        written: list[str] = []
        failed = False
        try:
            for piece in generate(self.connection, self.model, [*system, *self.messages, turn], self.sampling, figures):
                written.append(piece)
                yield piece
        except PantryError:
            failed = True
            raise
        finally:
            if written and not failed:
                self.messages += [turn, {"role": "assistant", "content": "".join(written)}]

    def forget(self) -> None:
        """Start over with an empty history."""
        self.messages.clear()

    def undo(self) -> bool:
        """Take back the last turn and its answer; False when there is none."""
        if not self.messages:
            return False
        del self.messages[-2:]
        return True

    def save(self, file: Path) -> None:
        """Write the history as JSON. Raises StorageError."""
        content = {"model": self.model, "system": self.system, "messages": self.messages}
        write_atomically(file, json.dumps(content, indent=2, ensure_ascii=False).encode() + b"\n", mode=0o600)
