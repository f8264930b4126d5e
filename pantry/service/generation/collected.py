"""Whole answers, put together from the events of a generation."""

from __future__ import annotations

from dataclasses import dataclass, field

from pantry.service.generation.events import (
    Event,
    Failure,
    Finish,
    FinishReason,
    ReasoningDelta,
    Start,
    TextDelta,
    Token,
    ToolCallBegin,
    ToolCallDelta,
    Usage,
)


@dataclass
class ToolCall:
    """One call of a tool; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str = ""


@dataclass
class CollectedAnswer:
    """One answer as far as it came."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: dict[int, ToolCall] = field(default_factory=dict)
    tokens: list[Token] = field(default_factory=list)
    finish: FinishReason | None = None

    @property
    def text(self) -> str:
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        return "".join(self.thoughts)


@dataclass
class Collected:
    """Everything that a generation said."""

    start: Start | None = None
    answers: dict[int, CollectedAnswer] = field(default_factory=dict)
    usage: Usage = field(default_factory=Usage)

    def feed(self, event: Event) -> None:
        """Take in one event. Raises the error of a `Failure`."""
        match event:
            case TextDelta():
                answer = self._answer(event.choice)
                answer.texts.append(event.text)
                answer.tokens += event.tokens
            case ReasoningDelta():
                answer = self._answer(event.choice)
                answer.thoughts.append(event.text)
                answer.tokens += event.tokens
            case ToolCallBegin():
                self._answer(event.choice).calls[event.index] = ToolCall(event.id, event.name)
            case ToolCallDelta():
                self._answer(event.choice).calls[event.index].arguments += event.arguments
            case Finish():
                self._answer(event.choice).finish = event.reason
            case Usage():
                self.usage = event
            case Start():
                self.start = event
            case Failure():
                raise event.error

    def in_order(self) -> list[tuple[int, CollectedAnswer]]:
        """The answers by their number."""
        return sorted(self.answers.items())

    def _answer(self, choice: int) -> CollectedAnswer:
        return self.answers.setdefault(choice, CollectedAnswer())
