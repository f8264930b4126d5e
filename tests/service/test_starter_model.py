"""The whole way with a real model: the shipped starter behind the real engine, through the real gateway."""

import json
import math
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.service.running import Service, events, starting, wait_until

pytestmark = pytest.mark.slow
FOX = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with starting(Service(tmp_path_factory.mktemp("starter") / "home")) as service:
        yield service


def chat(service: Service, **body: Any) -> Any:
    given = {"model": "starter", "messages": FOX, "temperature": 0, "max_tokens": 60, **body}
    status, answer = service.ask("POST", "/v1/chat/completions", given)
    assert status == 200, answer
    return answer


def test_first_request_installs_and_loads_the_starter(service: Service) -> None:
    answer = chat(service)
    assert "fox" in answer["choices"][0]["message"]["content"].lower()
    assert answer["usage"]["prompt_tokens"] > 5
    _, models = service.ask("GET", "/v1/models")
    assert models["data"][0]["pantry"]["licence"] == "CC0-1.0"


def test_same_seed_same_answer_other_seed_another(service: Service) -> None:
    one, two, other = (
        chat(service, temperature=1.2, seed=seed)["choices"][0]["message"]["content"] for seed in (7, 7, 8)
    )
    assert one == two != other


def test_stop_ends_the_answer_before_the_text(service: Service) -> None:
    whole = chat(service)["choices"][0]["message"]["content"]
    word = whole.split()[5]
    cut = chat(service, stop=[word])["choices"][0]["message"]["content"]
    assert cut == whole[: whole.index(word)]


def test_several_answers(service: Service) -> None:
    answer = chat(service, n=3, temperature=1.5, seed=1, max_tokens=20)
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["completion_tokens"] == 60


def test_chat_logprobs_in_chat_form(service: Service) -> None:
    answer = chat(service, logprobs=True, top_logprobs=3, max_tokens=5)
    content = answer["choices"][0]["logprobs"]["content"]
    assert len(content) == 5
    for token in content:
        assert len(token["top_logprobs"]) == 3
        assert token["logprob"] == pytest.approx(max(top["logprob"] for top in token["top_logprobs"]))
        assert sum(math.exp(top["logprob"]) for top in token["top_logprobs"]) <= 1.001
    assert "".join(token["token"] for token in content) == answer["choices"][0]["message"]["content"]


@pytest.mark.parametrize("streamed", [False, True])
def test_completion_logprobs_in_completion_form(service: Service, streamed: bool) -> None:
    body = {"model": "starter", "prompt": "Once", "max_tokens": 6, "temperature": 0, "logprobs": 2, "stream": streamed}
    _, _, content = service.ask_raw("POST", "/v1/completions", body)
    if streamed:
        found = [e["choices"][0] for e in events(content)[:-1] if e["choices"] and e["choices"][0]["logprobs"]]
        text = "".join(choice["text"] for choice in found)
        parts = [choice["logprobs"] for choice in found]
    else:
        choice = json.loads(content)["choices"][0]
        text, parts = choice["text"], [choice["logprobs"]]
    tokens = [token for part in parts for token in part["tokens"]]
    offsets = [offset for part in parts for offset in part["text_offset"]]
    assert "".join(tokens) == text
    assert len(tokens) == 6
    assert offsets == [len("".join(tokens[:number])) for number in range(6)]
    assert all(len(top) == 2 for part in parts for top in part["top_logprobs"])
    assert all(value <= 0 for part in parts for value in part["token_logprobs"])


SCHEMAS = {
    "object": {
        "type": "object",
        "properties": {"animal": {"type": "string", "maxLength": 12}, "legs": {"type": "integer"}},
        "required": ["animal", "legs"],
        "additionalProperties": False,
    },
    "enum": {"enum": ["red", "green"]},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3},
    "reference": {"$defs": {"n": {"type": "integer"}}, "type": "object", "properties": {"n": {"$ref": "#/$defs/n"}}},
}


@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
@pytest.mark.parametrize("endpoint", ["chat/completions", "completions"])
def test_answers_meet_their_schema(service: Service, endpoint: str, schema: Any) -> None:
    import jsonschema

    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    for seed in range(3):
        body = {"model": "starter", "messages": FOX, "prompt": "JSON: ", "response_format": form, "seed": seed}
        status, answer = service.ask("POST", f"/v1/{endpoint}", {**body, "max_tokens": 200})
        choice = answer["choices"][0] if status == 200 else {"finish_reason": "error"}
        if choice["finish_reason"] == "stop":
            text = choice["message"]["content"] if endpoint.startswith("chat") else choice["text"]
            jsonschema.validate(json.loads(text), schema)
        else:
            assert choice["finish_reason"] == "length", answer


def test_prompt_cache_is_used_between_turns(service: Service) -> None:
    first = chat(service, messages=FOX)
    turn = {"role": "assistant", "content": first["choices"][0]["message"]["content"]}
    again = chat(service, messages=[*FOX, turn, {"role": "user", "content": "Thank you."}])
    cached = again["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached > 0.6 * first["usage"]["total_tokens"]


def test_too_long_prompt_says_by_how_much(service: Service) -> None:
    body = {"model": "starter", "prompt": "fox " * 3000}
    status, answer = service.ask("POST", "/v1/completions", body)
    assert (status, answer["error"]["code"]) == (400, "context_length_exceeded")
    assert "too many" in answer["error"]["message"]


def test_worker_killed_mid_stream_gives_an_error_event_and_the_next_request_works(service: Service) -> None:
    found: list[Any] = []

    def ask() -> None:
        body = {"model": "starter", "prompt": "Once", "max_tokens": 450, "stream": True, "logit_bias": {"2": -100}}
        body |= {"temperature": 1.5}
        found.append(service.ask_raw("POST", "/v1/completions", body)[2].decode())

    chat(service)
    thread = threading.Thread(target=ask)
    (worker,) = service.workers()
    worker.send_signal(signal.SIGSTOP)  # so that the answer cannot end before the kill
    thread.start()
    wait_until(lambda: service.worker_is_busy("starter"))
    worker.kill()
    thread.join(20)
    (content,) = found  # one error in place of the answer, or as the last event of what had begun
    assert '"code": "engine_failed"' in content.replace('":"', '": "')
    assert "[DONE]" not in content
    assert chat(service)["choices"][0]["finish_reason"] in ("stop", "length")


def test_sixteen_clients_at_once_all_get_whole_answers(service: Service) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda seed: chat(service, seed=seed, temperature=1, max_tokens=30), range(16)))
    assert all(answer["usage"]["completion_tokens"] >= 1 for answer in answers)


def test_run_starter_from_nothing(tmp_path: Any) -> None:
    service = Service(tmp_path / "home")
    command = [sys.executable, "-m", "pantry"]
    try:
        done = subprocess.run(
            [*command, "run", "starter", "Tell me a story about a fox.", "--seed", "1"],
            env=service.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "fox" in done.stdout.lower()
        assert len(done.stdout.split()) > 20
    finally:
        subprocess.run([*command, "down"], env=service.environment, capture_output=True, timeout=30)


def test_file_damaged_after_it_was_added_is_refused_at_load(tmp_path: Any) -> None:
    with starting(Service(tmp_path / "home")) as service:
        chat(service, max_tokens=2)
        service.ask("POST", "/admin/unload", {"model": "starter"})
        blob = max((path for path in service.paths.blobs.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
        blob.chmod(0o644)
        with blob.open("r+b") as file:
            file.truncate(blob.stat().st_size // 2)
        status, answer = service.ask("POST", "/v1/chat/completions", {"model": "starter", "messages": FOX})
        assert (status, answer["error"]["code"]) == (422, "verification_failed")


def test_memory_that_the_context_would_need_is_refused_before_loading(tmp_path: Any) -> None:
    service = Service(tmp_path / "home", {"PANTRY_PARALLEL": "256", "PANTRY_MEMORY_BUDGET": "300000000"})
    with starting(service):
        status, answer = service.ask("POST", "/v1/chat/completions", {"model": "starter", "messages": FOX})
        assert (status, answer["error"]["code"]) == (507, "not_enough_memory")
        assert "256 answers of" in answer["error"]["message"]
        assert not service.workers()


@pytest.mark.parametrize("endpoint", ["chat/completions", "completions"])
def test_logprobs_without_alternatives_are_those_of_the_chosen_tokens(service: Service, endpoint: str) -> None:
    chatting = endpoint.startswith("chat")
    body = {"model": "starter", "messages": FOX, "prompt": "Once", "max_tokens": 4, "logprobs": True if chatting else 0}
    status, answer = service.ask("POST", f"/v1/{endpoint}", body)
    assert status == 200
    found = answer["choices"][0]["logprobs"]
    if chatting:
        assert [token["top_logprobs"] for token in found["content"]] == [[]] * 4
        assert all(token["logprob"] <= 0 for token in found["content"])
    else:
        assert len(found["token_logprobs"]) == 4
        assert found["top_logprobs"] == [{}] * 4


def test_pattern_that_the_engine_ignores_is_never_broken_silently(service: Service) -> None:
    for pattern in (r"^\d{3}-\d{4}$", r"^\bword\b$"):
        schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": pattern}}, "required": ["a"]}
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        body = {"model": "starter", "messages": FOX, "response_format": form, "max_tokens": 200, "seed": 1}
        status, answer = service.ask("POST", "/v1/chat/completions", body)
        if status != 200:
            assert (status, answer["error"]["code"]) in ((400, "invalid_request"), (502, "engine_failed"))
        elif answer["choices"][0]["finish_reason"] != "length":
            assert re.search(pattern, json.loads(answer["choices"][0]["message"]["content"])["a"])
