"""The worker process of the llama_cpp engine: loads one GGUF model and serves it on a Unix socket.

Started as `python -m pantry.engines.processes.llama_cpp '<options as JSON>'`; runs until its standard input ends.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from pantry.engines.processes.guard import die_with_parent

BATCH = 256
"""Prompt tokens evaluated between two looks at whether the client is still there."""


def main() -> None:
    die_with_parent()
    os.umask(0o077)
    given = json.loads(sys.argv[1])
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = given["path"]
    if given["projectors"]:
        params.mmproj.path = given["projectors"][0]
    params.lora_adapters = [_adapter(xllamacpp, path) for path in given["adapters"]]
    params.model_alias = {given["name"]}
    params.hostnames = [given["socket"]]
    params.n_ctx = given["context"] * given["parallel"]
    params.n_parallel = given["parallel"]
    params.n_batch = params.n_ubatch = BATCH
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = given["threads"]
    params.cache_ram_mib = given["prompt_cache"] >> 20
    params.check_tensors = True  # weights that are not numbers are refused at load
    params.fit_params = False  # the pool has decided what fits; the engine must not change the context silently
    params.ui = False
    params.warmup = False
    params.verbosity = 2  # warnings and errors; the levels below tell every request
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        print(f"load failed: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    sys.stdin.buffer.read()
    del server


def _adapter(xllamacpp: Any, path: str) -> Any:
    """An adapter at its full strength."""
    adapter = xllamacpp.CommonAdapterLoraInfo()
    adapter.path, adapter.scale = path, 1.0
    return adapter


if __name__ == "__main__":
    main()
