"""A GGUF file behind llama.cpp's own HTTP listener, in this process: what the evaluation asks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import xllamacpp


@dataclass(frozen=True)
class Reply:
    text: str
    finish: str
    """ "stop" when the model ended its turn, "length" when it was cut."""
    tokens: int


class Engine:
    """One model on one slot of 512 tokens. Use as a context manager; leaving it frees the model."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = 512
        parameters.n_parallel = 1
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.ui = False
        parameters.cache_ram_mib = 0
        parameters.verbosity = -1
        self._server: Any = xllamacpp.Server(parameters)
        self._host = urlsplit(self._server.listening_address).netloc

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self._server = None

    def post(self, route: str, body: dict[str, Any]) -> Any:
        """The JSON answer to a JSON body. Raises RuntimeError with the engine's words when it refuses."""
        connection = HTTPConnection(self._host, timeout=120)
        try:
            connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{route}: {answer.status} {content.decode(errors='replace')}")
        return json.loads(content)

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        tokens: list[int] = self.post("/tokenize", {"content": text, "parse_special": special})["tokens"]
        return tokens

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The `count` most likely next tokens, one after another, past any end of turn."""
        body = {
            "prompt": ids,
            "n_predict": count,
            "temperature": 0,
            "return_tokens": True,
            "ignore_eos": True,
            "cache_prompt": False,
        }
        tokens: list[int] = self.post("/completion", body)["tokens"]
        return tokens

    def chat(
        self, messages: list[dict[str, str]], *, temperature: float | None = 0.0, seed: int = 1, max_tokens: int = 320
    ) -> Reply:
        """The answer to a conversation; `temperature` None leaves it to what the file itself says."""
        body: dict[str, Any] = {"messages": messages, "seed": seed, "max_tokens": max_tokens}
        if temperature is not None:
            body["temperature"] = temperature
        answer = self.post("/v1/chat/completions", body)
        choice = answer["choices"][0]
        return Reply(choice["message"]["content"], choice["finish_reason"], answer["usage"]["completion_tokens"])

    def ask(self, question: str, *, temperature: float | None = 0.0, seed: int = 1) -> Reply:
        return self.chat([{"role": "user", "content": question}], temperature=temperature, seed=seed)
