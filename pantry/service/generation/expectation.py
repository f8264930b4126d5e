"""What a request demands of its answers beyond their form: a tool call, or JSON that fits a schema."""

from __future__ import annotations

from pantry.core.errors import EngineError
from pantry.service.generation.collected import Collected
from pantry.service.generation.events import Event, Usage
from pantry.service.generation.request import GenerationRequest


class Expectation:
    """Holds every answer that ended by itself to what was asked for; does nothing where nothing special was."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self._collected = Collected() if request.must_call or request.schema is not None else None

    def feed(self, event: Event) -> None:
        """Take in one event; `Usage`, the last one, brings the check. Raises EngineError when an answer falls short."""
        if self._collected is None:
            return
        self._collected.feed(event)
        if isinstance(event, Usage):
            self._check(self._collected)

    def _check(self, collected: Collected) -> None:
        for _, answer in collected.in_order():
            if answer.finish != "stop":
                continue
            if self._request.must_call and not answer.calls:
                raise EngineError("The model did not call a tool, and tool_choice asked for it.", hint="Ask again.")
            if self._request.schema is not None:
                self._request.schema.check(answer.text)
