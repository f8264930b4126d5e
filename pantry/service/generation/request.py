"""What can be asked of an engine: the one request that every API surface translates its own into.

An engine speaks OpenAI's dialect with llama.cpp's additions; `for_engine` is the only place that writes it. Source: the
OpenAI API reference, and llama.cpp's server README for the sampling fields beyond it.
"""

from __future__ import annotations

import reprlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pantry.core.errors import UsageError, did_you_mean
from pantry.service.generation.output_schema import OutputSchema

MAX_CHOICES = 16  # answers to one request
MAX_STOPS = 16
MAX_MESSAGES = 10_000
MAX_NUMBER = 2**31 - 1
CHAT_PATH = "/v1/chat/completions"
COMPLETION_PATH = "/v1/completions"
T = TypeVar("T", bound=BaseModel)


class Sampling(BaseModel):
    """How tokens are chosen and when to stop, as every surface takes it. Ranges are OpenAI's; None is not sent on."""

    model_config = ConfigDict(extra="ignore")

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

    def engine_fields(self) -> dict[str, Any]:
        """The fields that were given, under the names engines know."""
        body = self.model_dump(include=_SENT_ON, exclude_none=True)
        if self.seed is not None:
            body["seed"] = self.seed % 2**32  # engines take 32 bits
        return body


SAMPLING = frozenset(Sampling.model_fields)
"""The names of the generation parameters, the same on every surface."""
_SENT_ON = set(SAMPLING - {"response_format"})  # the two endpoints of an engine take that in forms of their own


@dataclass(frozen=True)
class Conversation:
    """Messages in OpenAI's form to be answered by the model's chat template, and the tools it may call."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    template_arguments: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Continuation:
    """A text to be continued as it stands, its tokens, or several of either."""

    prompt: str | Sequence[str] | Sequence[int] | Sequence[Sequence[int]]

    @property
    def count(self) -> int:
        """How many prompts these are."""
        return 1 if isinstance(self.prompt, str) or isinstance(self.prompt[0], int) else len(self.prompt)


@dataclass(frozen=True)
class GenerationRequest:
    """A request for `n` answers. `logprobs` is how many of the likeliest tokens to tell beside each; None for none."""

    given: Conversation | Continuation
    sampling: Sampling
    n: int = 1
    logprobs: int | None = None
    schema: OutputSchema | None = None

    @property
    def chat(self) -> bool:
        return isinstance(self.given, Conversation)

    @property
    def answers(self) -> int:
        """How many answers will come: `n` to each prompt."""
        return self.n if isinstance(self.given, Conversation) else self.n * self.given.count

    @property
    def must_call(self) -> bool:
        """Whether an answer without a tool call would not be what was asked for."""
        if not isinstance(self.given, Conversation):
            return False
        return self.given.tool_choice == "required" or isinstance(self.given.tool_choice, Mapping)

    def for_engine(self) -> tuple[str, dict[str, Any]]:
        """The path and the body to send to an engine.

        Always a stream: an engine notices a client that left only when it writes to it. Progress events make it write
        during the prompt, too.
        """
        body = self.sampling.engine_fields()
        body |= {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
        if self.n > 1:
            body["n"] = self.n
        most = max(1, self.logprobs or 0)  # llama.cpp gives none for 0
        if isinstance(self.given, Conversation):
            return CHAT_PATH, body | self._conversation(self.given, most)
        if self.logprobs is not None:
            body["logprobs"] = most
        if self.schema is not None:
            body["json_schema"] = self.schema.schema if self.schema.schema is not None else {"type": "object"}
        return COMPLETION_PATH, body | {"prompt": self.given.prompt}

    def _conversation(self, given: Conversation, most: int) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "messages": given.messages,
            "tools": given.tools,
            "tool_choice": given.tool_choice,
            "parallel_tool_calls": given.parallel_tool_calls,
            "chat_template_kwargs": given.template_arguments,
            "response_format": self.sampling.response_format,
        }
        if self.logprobs is not None:
            fields |= {"logprobs": True, "top_logprobs": most}
        return {name: value for name, value in fields.items() if value is not None}


def parse_sampling(parameters: Mapping[str, Any]) -> Sampling:
    """The generation parameters of a call. Raises UsageError for a bad one, or with the nearest name."""
    for name in parameters:
        if name not in SAMPLING:
            raise UsageError(
                f"There is no generation parameter {name[:60]!r}.",
                hint=did_you_mean(name, SAMPLING, f"Known: {', '.join(sorted(SAMPLING))}."),
            )
    return parse_body(Sampling, dict(parameters))


def parse_body(kind: type[T], body: Any, inner_fields: Collection[str] = ()) -> T:
    """`body` as a request of this kind. Raises UsageError that names the field, what it must be and what came.

    `inner_fields` are names of fields inside other fields that a message may name too.
    """
    if not isinstance(body, dict):
        raise UsageError(f"The request body is a JSON object; got {type(body).__name__}.")
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        known = {*kind.model_fields, *inner_fields}  # the rest names variants of types
        field = ".".join(str(part) for part in first["loc"] if part in known or isinstance(part, int))
        given = "" if first["type"] in ("missing", "value_error") else f", got {reprlib.repr(first['input'])}"
        what = first["msg"].removeprefix("Value error, ")
        text = f"{field}: {what}{given}" if field else f"{what}{given}"
        raise UsageError(text if text.endswith((".", "?")) else f"{text}.") from None
