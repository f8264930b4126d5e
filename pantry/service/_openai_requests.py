"""The request bodies of OpenAI's two text endpoints: parsed once, and turned into what an engine gets.

Only the fields named here reach an engine; others that clients send (user, metadata, ...) are ignored, as other servers
do. Source: the OpenAI API reference, and llama.cpp's server README for the sampling fields beyond it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pantry.core.errors import UsageError
from pantry.service._openai_chunks import Wanted
from pantry.service._schema import OutputSchema

MAX_CHOICES = 16
MAX_STOPS = 16
Chunk = dict[str, Any]
T = TypeVar("T", bound=BaseModel)


class _StreamOptions(BaseModel):
    include_usage: bool = False


class Sampling(BaseModel):
    """What the text endpoints share. Ranges are OpenAI's; fields without a default are not sent on."""

    model_config = ConfigDict(extra="ignore")

    model: str = Field(min_length=1, max_length=200)
    stream: bool = False
    stream_options: _StreamOptions | None = None
    n: int = Field(1, ge=1, le=MAX_CHOICES)
    max_tokens: int | None = Field(None, ge=1)
    stop: list[Annotated[str, Field(min_length=1, max_length=1000)]] | None = Field(None, max_length=MAX_STOPS)
    seed: int | None = None
    temperature: float | None = Field(None, ge=0, le=5)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repeat_penalty: float | None = Field(None, ge=0, le=10)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = Field(None, max_length=1024)
    response_format: dict[str, Any] | None = None

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
        # Always a stream: an engine notices a client that left only when it writes to it. Progress events make it
        # write during the prompt, too.
        body |= {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
        return body if self.n == 1 else body | {"n": self.n}

    @property
    def wants_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ChatRequest(Sampling):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool = False
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @field_validator("messages")
    @classmethod
    def _have_roles(cls, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        for number, message in enumerate(messages):
            if not isinstance(message.get("role"), str):
                raise ValueError(f"message {number} has no role")
            if not isinstance(message.get("content"), (str, list, type(None))):
                raise ValueError(f"the content of message {number} is neither text nor a list of parts")
        return messages

    def wanted(self) -> Wanted:
        return Wanted(
            chat=True,
            stream=self.stream,
            n=self.n,
            include_usage=self.wants_usage,
            logprobs=self.logprobs,
            schema=self.schema_wanted(),
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
            body |= {"logprobs": True, "top_logprobs": self.top_logprobs or 0}
        return body


class CompletionRequest(Sampling):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=64)] | Annotated[list[int], Field(min_length=1)]
    logprobs: int | None = Field(None, ge=0, le=20)
    echo: bool = False
    suffix: Literal[""] | None = None

    def wanted(self) -> Wanted:
        if self.echo and (self.logprobs is not None or not isinstance(self.prompt, str)):
            raise UsageError("echo works with one text prompt and without logprobs.", hint="Leave one of them out.")
        return Wanted(
            chat=False,
            stream=self.stream,
            n=self.n,
            prompts=len(self.prompt) if isinstance(self.prompt, list) and isinstance(self.prompt[0], str) else 1,
            include_usage=self.wants_usage,
            logprobs=self.logprobs is not None,
            schema=self.schema_wanted(),
            echo=self.prompt if self.echo and isinstance(self.prompt, str) else None,
        )

    def for_engine(self) -> Chunk:
        """The body to send to an engine's /v1/completions."""
        body = self.sampling() | {"prompt": self.prompt}
        if self.logprobs is not None:
            body["logprobs"] = self.logprobs
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
        field = ".".join(str(part) for part in first["loc"])
        given = "" if first["type"] == "missing" else f", got {str(first['input'])[:80]!r}"
        raise UsageError(f"{field}: {first['msg']}{given}.") from None
