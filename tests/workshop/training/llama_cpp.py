"""A GGUF file in llama.cpp with a float32 cache, in this process: what the exports are compared with."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import xllamacpp

F32 = 0  # ggml_type


class Engine:
    """One model on one slot. Use as a context manager; leaving it frees the model."""

    def __init__(self, path: Path, context: int) -> None:
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(path)
        parameters.n_ctx = context
        parameters.n_parallel = 1
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type(F32)
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = 1
        parameters.hostnames = ["127.0.0.1"]
        parameters.port = 0
        parameters.ui = False
        parameters.warmup = False
        parameters.fit_params = False
        parameters.cache_ram_mib = 0
        parameters.verbosity = -1
        self._server: Any = xllamacpp.Server(parameters)
        self._host = urlsplit(self._server.listening_address).netloc

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self._server = None

    def post(self, route: str, body: dict[str, Any]) -> Any:
        connection = HTTPConnection(self._host, timeout=120)
        try:
            connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, content
        return json.loads(content)

    def tokenize(self, text: str) -> list[int]:
        tokens: list[int] = self.post("/tokenize", {"content": text, "parse_special": False})["tokens"]
        return tokens

    def greedy(self, ids: list[int], count: int) -> list[int]:
        """The `count` likeliest tokens, one after another; ends of a text or turn are passed over."""
        tokens: list[int] = self._complete(ids, count, 0, ignore_eos=True)["tokens"]
        return tokens

    def probabilities(self, ids: list[int], vocab: int) -> dict[int, float]:
        """The log-probability of each next token; nothing where the likeliest is but a part of a character."""
        places = self._complete(ids, 1, vocab).get("completion_probabilities", [])
        return {choice["id"]: choice["logprob"] for place in places for choice in place["top_logprobs"]}

    def _complete(self, ids: list[int], count: int, probabilities: int, **more: object) -> Any:
        body = {"prompt": ids, "n_predict": count, "temperature": 0, "return_tokens": True, "n_probs": probabilities}
        return self.post("/completion", {**body, "cache_prompt": False, **more})
