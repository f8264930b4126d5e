"""Programs that people use, pointed at the service with nothing but what `pantry env` prints."""

import asyncio
import json
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.running import Service, starting

pytestmark = pytest.mark.slow
FOX: Any = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("clients") / "home")
    service.add_echo("dies", die_after=2)
    with starting(service):
        yield service


@pytest.fixture
def variables(service: Service, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment as after eval "$(pantry env)"."""
    found = {"OPENAI_BASE_URL": f"http://127.0.0.1:{service.port}/v1", "OPENAI_API_KEY": service.key}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


def test_openai_client_whole_streamed_and_typed_errors(variables: dict[str, str]) -> None:
    import openai

    with openai.OpenAI(max_retries=0) as client:
        assert "starter" in [model.id for model in client.models.list()]
        whole = client.chat.completions.create(model="starter", messages=FOX, temperature=0, max_tokens=40)
        assert "fox" in (whole.choices[0].message.content or "").lower()
        assert whole.usage
        chunks = list(
            client.chat.completions.create(
                model="starter", messages=FOX, temperature=0, max_tokens=40, stream=True,
                stream_options={"include_usage": True},
            )
        )  # fmt: skip
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == whole.choices[0].message.content
        streamed, plain_usage = chunks[-1].usage, whole.usage  # the second answer has the prompt in its cache
        for count in ("prompt_tokens", "completion_tokens", "total_tokens"):
            assert getattr(streamed, count) == getattr(plain_usage, count) > 0
        plain = client.completions.create(model="starter", prompt="Once", max_tokens=5, logprobs=1)
        assert plain.choices[0].logprobs
        assert len(plain.choices[0].logprobs.tokens or []) == 5
        with pytest.raises(openai.NotFoundError, match="starter"):
            client.chat.completions.create(model="startre", messages=FOX)
        with pytest.raises(openai.APIError, match="killed"):
            list(client.chat.completions.create(model="dies", messages=FOX, stream=True))
    with openai.OpenAI(api_key="pk-wrong", max_retries=0) as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


def test_openai_client_parses_structured_output(variables: dict[str, str]) -> None:
    import openai
    from pydantic import BaseModel

    class Answer(BaseModel):
        yes: bool

    with openai.OpenAI(max_retries=0) as client:
        parsed = client.chat.completions.parse(model="starter", messages=FOX, response_format=Answer)
    assert isinstance(parsed.choices[0].message.parsed, Answer)


def test_openai_async_client_streams_and_cancels(service: Service, variables: dict[str, str]) -> None:
    import openai

    async def use() -> str:
        async with openai.AsyncOpenAI(max_retries=0) as client:
            stream = await client.chat.completions.create(model="starter", messages=FOX, max_tokens=300, stream=True)
            async for chunk in stream:
                if chunk.choices and chunk.choices[0].delta.content:
                    await stream.close()
                    return chunk.choices[0].delta.content
        return ""

    assert asyncio.run(use())
    from tests.service.running import wait_until

    assert wait_until(lambda: not service.worker_is_busy("starter")) < 1


def test_litellm_as_a_library(variables: dict[str, str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # litellm's own, at import and use
        import litellm

        given = {"model": "openai/starter", "messages": FOX, "max_tokens": 30, "temperature": 0}
        whole = litellm.completion(**given)
        streamed = litellm.completion(**given, stream=True)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)
    assert text == whole.choices[0].message.content


def test_curl(variables: dict[str, str]) -> None:
    curl = shutil.which("curl")
    assert curl, "install curl: it is one of the clients that are promised to work"
    body = json.dumps({"model": "starter", "messages": FOX, "max_tokens": 5})
    done = subprocess.run(
        [curl, "-sS", f"{variables['OPENAI_BASE_URL']}/chat/completions", "-d", body,
         "-H", "Content-Type: application/json", "-H", f"Authorization: Bearer {variables['OPENAI_API_KEY']}"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert json.loads(done.stdout)["choices"][0]["message"]["content"]
