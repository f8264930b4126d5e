"""The request bodies of OpenAI's two text endpoints: parsed once, and turned into what an engine gets.

Only the fields named here reach an engine; others that clients send (user, metadata, ...) are ignored, as other servers
do. Source: the OpenAI API reference, and llama.cpp's server README for the sampling fields beyond it.
"""

from __future__ import annotations

import reprlib
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pantry.core.errors import UsageError, did_you_mean
from pantry.service.generation.chunks import ResponseOptions
from pantry.service.generation.output_schema import OutputSchema

MAX_CHOICES = 16
MAX_STOPS = 16
MAX_MESSAGES = 10_000
MAX_PROMPTS = 64
MAX_NUMBER = 2**31 - 1
Chunk = dict[str, Any]
T = TypeVar("T", bound=BaseModel)


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


class Sampling(BaseModel):
    """What the text endpoints share. Ranges are OpenAI's; fields without a default are not sent on."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(min_length=1, max_length=200)
    pantry: Needs | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    best_of: int | None = Field(None, ge=1)
    max_tokens: int | None = Field(None, ge=1, le=MAX_NUMBER)
    stop: list[Annotated[str, Field(min_length=1, max_length=1000)]] | None = Field(None, max_length=MAX_STOPS)
    seed: int | None = Field(None, ge=-(2**63), lt=2**64)
    temperature: float | None = Field(None, ge=0, le=5)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0, le=MAX_NUMBER)
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, ge=0, le=10)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = Field(None, max_length=1024)
    response_format: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _best_is_all(self) -> Self:
        if self.best_of is not None and self.best_of != self.n:
            raise ValueError("best_of other than n is not supported: ask for n answers and choose")
        return self

    @field_validator("stop", mode="before")
    @classmethod
    def _one_stop(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    def schema_wanted(self) -> OutputSchema | None:
        """The check on the answer that `response_format` asks for. Raises UsageError when it is malformed."""
        form = self.response_format or {"type": "text"}
        match form.get("type"):
            case "text":
                return None
            case "json_object":
                return OutputSchema(None) if "schema" not in form else OutputSchema.parse(form["schema"])
            case "json_schema":
                inner = form.get("json_schema")
                if not isinstance(inner, dict) or "schema" not in inner:
                    raise UsageError("response_format needs json_schema.schema.")
                return OutputSchema.parse(inner["schema"])
        raise UsageError(
            f"response_format.type is {form.get('type')!r}.", hint="Known: text, json_object, json_schema."
        )

    def sampling(self) -> Chunk:
        """The sampling fields that were given, under the names engines know."""
        names = {
            "max_tokens", "stop", "seed", "temperature", "top_p", "top_k", "min_p", "repeat_penalty",
            "frequency_penalty", "presence_penalty", "logit_bias",
        }  # fmt: skip
        body = self.model_dump(include=names, exclude_none=True)
        if self.seed is not None:
            body["seed"] = self.seed % 2**32  # engines take 32 bits
        # Always a stream: an engine notices a client that left only when it writes to it. Progress events make it
        # write during the prompt, too.
        body |= {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
        return body if self.n == 1 else body | {"n": self.n}

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


class ChatRequest(Sampling):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1, le=MAX_NUMBER)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[_Tool] | None = Field(None, max_length=128)
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @field_validator("messages")
    @classmethod
    def _have_roles(cls, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, message in enumerate(messages):
            if not isinstance(message.get("role"), str):
                raise ValueError(f"message {number} has no role")
            content = message.get("content")
            if not isinstance(content, str | list | None):
                raise ValueError(f"the content of message {number} is neither text nor a list of parts")
            for part in content if isinstance(content, list) else ():
                if not (isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)):
                    raise ValueError(f"message {number} has a part that is not text; only text is read here")
        return messages

    @field_validator("chat_template_kwargs")
    @classmethod
    def _own_names(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        if taken := sorted(_TEMPLATE_NAMES & (given or {}).keys()):
            raise ValueError(f"{taken[0]!r} is set by the service")
        return given

    @model_validator(mode="after")
    def _tools_to_call(self) -> Self:
        if self.must_call and not self.tools:
            raise ValueError("tool_choice asks for a call, and there are no tools")
        return self

    @property
    def must_call(self) -> bool:
        """Whether an answer without a tool call would not be what was asked for."""
        return self.tool_choice == "required" or isinstance(self.tool_choice, dict)

    def wanted(self) -> ResponseOptions:
        return ResponseOptions(
            chat=True,
            stream=self.stream,
            n=self.n,
            include_usage=self.wants_usage,
            logprobs=self.logprobs,
            top_logprobs=self.top_logprobs or 0,
            schema=self.schema_wanted(),
            must_call=self.must_call,
        )

    def for_engine(self) -> Chunk:
        """The body to send to an engine's /v1/chat/completions."""
        body = self.sampling() | {"messages": self.messages}
        body |= self.model_dump(
            include={"tools", "tool_choice", "parallel_tool_calls", "chat_template_kwargs", "response_format"},
            exclude_none=True,
        )
        if self.max_completion_tokens is not None:
            body["max_tokens"] = self.max_completion_tokens
        if self.logprobs:
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 1}  # llama.cpp gives none for 0
        return body


_TokenId = Annotated[int, Field(strict=True, ge=0, le=MAX_NUMBER)]
_TokenIds = Annotated[list[_TokenId], Field(min_length=1, max_length=1_000_000)]
_TokenLists = Annotated[list[_TokenIds], Field(min_length=1, max_length=MAX_PROMPTS)]
_Texts = Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS)]


class CompletionRequest(Sampling):
    """POST /v1/completions."""

    prompt: str | _Texts | _TokenIds | _TokenLists
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    suffix: Literal[""] | None = None

    def wanted(self) -> ResponseOptions:
        if self.echo and (self.logprobs is not None or not isinstance(self.prompt, str)):
            raise UsageError("echo works with one text prompt and without logprobs.", hint="Leave one of them out.")
        return ResponseOptions(
            chat=False,
            stream=self.stream,
            n=self.n,
            prompts=1 if isinstance(self.prompt, str) or isinstance(self.prompt[0], int) else len(self.prompt),
            include_usage=self.wants_usage,
            logprobs=self.logprobs is not None,
            top_logprobs=self.logprobs or 0,
            schema=self.schema_wanted(),
            echo=self.prompt if self.echo and isinstance(self.prompt, str) else None,
        )

    def for_engine(self) -> Chunk:
        """The body to send to an engine's /v1/completions."""
        body = self.sampling() | {"prompt": self.prompt}
        if self.logprobs is not None:
            body["logprobs"] = self.logprobs or 1  # llama.cpp gives none for 0
        if (schema := self.schema_wanted()) is not None:
            body["json_schema"] = schema.schema if schema.schema is not None else {"type": "object"}
        return body


def parse_request(kind: type[T], body: Any) -> T:
    """`body` as a request. Raises UsageError that names the field, what it must be and what came."""
    if not isinstance(body, dict):
        raise UsageError(f"The request body is a JSON object; got {type(body).__name__}.")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        known = {*kind.model_fields, *Needs.model_fields}  # the rest names variants of types
        field = ".".join(str(part) for part in first["loc"] if part in known or isinstance(part, int))
        given = "" if first["type"] in ("missing", "value_error") else f", got {reprlib.repr(first['input'])}"
        what = first["msg"].removeprefix("Value error, ")
        text = f"{field}: {what}{given}" if field else f"{what}{given}"
        raise UsageError(text if text.endswith((".", "?")) else f"{text}.") from None
