"""The request bodies of OpenAI's two text endpoints, parsed once and turned into the one request of a generation.

Only the fields named here reach an engine; others that clients send (user, metadata, ...) are ignored, as other servers
do. Source: the OpenAI API reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pantry.core.errors import UsageError, did_you_mean
from pantry.service.generation.request import (
    MAX_CHOICES,
    MAX_NUMBER,
    Continuation,
    Conversation,
    GenerationRequest,
    Sampling,
)
from pantry.service.generation.text import checked_messages

MAX_PROMPTS = 64  # in one request for completions


class _StreamOptions(BaseModel):
    include_usage: bool = False


_Words = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=32)]


class Needs(BaseModel):
    """The `pantry` object beside `model: "auto"`: what is needed, in place of a name.

    `needs` and `prefer` are lists, or texts with commas as on the command line.
    """

    needs: _Words = []
    prefer: _Words = []
    fallback_mode: str = Field(default="requirements_load", max_length=200)

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            raise ValueError('is an object, like {"needs": ["CODING", "context>=8192"], "prefer": ["speed"]}')
        for key in given:
            if key not in cls.model_fields:
                known = ", ".join(cls.model_fields)
                hint = did_you_mean(str(key), cls.model_fields, f"Known: {known}.")
                raise ValueError(f"has no key {str(key)[:60]!r}. {hint}")
        return given

    @field_validator("needs", "prefer", mode="before")
    @classmethod
    def _with_commas(cls, value: Any) -> Any:
        return value.split(",") if isinstance(value, str) else value


INNER_FIELDS = frozenset(Needs.model_fields)
"""Names of fields inside `pantry` that messages name too."""


class TextRequest(Sampling):
    """What the two endpoints share."""

    model: str = Field(min_length=1, max_length=200)
    pantry: Needs | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    best_of: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _best_is_all(self) -> Self:
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError("best_of other than n is not supported: ask for n answers and choose")
        return self

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


_TEMPLATE_NAMES = frozenset({"messages", "tools", "add_generation_prompt", "bos_token", "eos_token"})
"""What a chat template is given by the engine and may not be given by a client."""


class _Function(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1, max_length=64)
    parameters: dict[str, Any] | None = None


class _Tool(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    function: _Function


class ChatRequest(TextRequest):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_NUMBER)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[_Tool] | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @field_validator("chat_template_kwargs")
    @classmethod
    def _own_names(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if taken := sorted(_TEMPLATE_NAMES & (given or {}).keys()):
            raise ValueError(f"{taken[0]!r} is set by the service")
        return given

    @model_validator(mode="after")
    def _tools_to_call(self) -> Self:
        if (self.tool_choice == "required" or isinstance(self.tool_choice, Mapping)) and not self.tools:
            raise ValueError("tool_choice asks for a call, and there are no tools")
        return self

    def generation(self) -> GenerationRequest:
        """The request behind this body. Raises UsageError for a bad message or output schema."""
        tools = [tool.model_dump(exclude_none=True) for tool in self.tools] if self.tools is not None else None
        sampling = self
        if self.max_completion_tokens is not None:
            sampling = self.model_copy(update={"max_tokens": self.max_completion_tokens})
        return GenerationRequest(
            Conversation(
                checked_messages(self.messages),
                tools,
                self.tool_choice,
                self.parallel_tool_calls,
                self.chat_template_kwargs,
            ),
            sampling,
            n=self.n,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            schema=self.schema_wanted(),
        )


_TokenId = Annotated[int, Field(strict=True, ge=0, le=MAX_NUMBER)]
_TokenIds = Annotated[list[_TokenId], Field(min_length=1, max_length=1_000_000)]
_TokenLists = Annotated[list[_TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
_Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]


class CompletionRequest(TextRequest):
    """POST /v1/completions."""

    prompt: str | _Texts | _TokenIds | _TokenLists
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    suffix: Literal[""] | None = None

    def generation(self) -> GenerationRequest:
        """The request behind this body. Raises UsageError for a bad output schema or combination of fields."""
        if self.echo and (self.logprobs is not None or not isinstance(self.prompt, str)):
            raise UsageError("echo works with one text prompt and without logprobs.", hint="Leave one of them out.")
        return GenerationRequest(
            Continuation(self.prompt), self, n=self.n, logprobs=self.logprobs, schema=self.schema_wanted()
        )

    @property
    def echoed(self) -> str:
        """The prompt to put before the text."""
        return self.prompt if self.echo and isinstance(self.prompt, str) else ""
