"""One contract for every registered engine: it loads, answers in the dialect, notices a client that left, and ends."""

import asyncio
import json
import os
import stat
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest

from pantry.core.errors import EngineError
from pantry.core.refs import Digest, ModelName
from pantry.core.settings import Settings
from pantry.engines.adapter import ENGINES, LoadOptions, ModelFiles, Serves
from pantry.engines.adapters.llama_cpp import REQUIRED_X86_FEATURES, missing_features
from pantry.engines.choose import serves
from pantry.engines.worker import Worker
from pantry.formats.kinds import format_called
from pantry.formats.parts import PlacedPart
from pantry.store.models import InstalledModel
from pantry.store.parts import ModelPart
from tests.gguf_files import GGUFBuilder
from tests.starter_model import starter_gguf

OPTIONS = LoadOptions(context=512, parallel=2, threads=1, prompt_cache=0)
needs_model = pytest.mark.slow


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings that name a llama-server: a program with its options, over the same library as the wheel."""
    program = tmp_path / "llama-server"
    program.write_text(f"#!{sys.executable}\n{(Path(__file__).parent / 'llama_server_program.py').read_text()}")
    program.chmod(0o755)
    return Settings(llama_server=program)


def one_file(format: str, file: Path) -> ModelFiles:
    return ModelFiles(ModelName("contract"), format, (PlacedPart(file.name, "weights", file),))


def model_for(engine: str, folder: Path, **echo: Any) -> ModelFiles:
    if engine == "echo":
        file = folder / "model.echo"
        file.write_text(json.dumps(echo))
        return one_file("echo", file)
    return one_file("gguf", starter_gguf())


def small_model_for(engine: str, folder: Path) -> ModelFiles:
    """A model of the first format that the engine runs, which is never started."""
    kind = format_called(min(ENGINES.get(engine).formats))
    file = folder / f"model{kind.suffix}"
    file.write_bytes(GGUFBuilder().build() if kind.tensors else b"{}")
    return one_file(kind.name, file)


@asynccontextmanager
async def running(engine: str, model: ModelFiles, settings: Settings, folder: Path) -> AsyncIterator[Worker]:
    socket = folder / "worker.sock"
    command = ENGINES.get(engine).command(model, OPTIONS, socket, settings)
    worker = await Worker.start(engine, command, socket, folder / "worker.log", 60)
    try:
        yield worker
    finally:
        await worker.stop()


async def events(worker: Worker, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    given = {"stream": True, "stream_options": {"include_usage": True}, "temperature": 0, **body}
    response = await worker.post(path, given)
    assert response.status == 200, await response.text()
    lines = (await response.text()).splitlines()
    assert lines[-2 if lines[-1] == "" else -1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


ENGINE_NAMES = ["echo", pytest.param("llama_cpp", marks=needs_model), pytest.param("llama_server", marks=needs_model)]


def test_contract_covers_every_engine() -> None:
    known = {getattr(name, "values", [name])[0] for name in ENGINE_NAMES}
    assert known | {"remote"} == set(ENGINES.names()), "the contract of remote is in test_remote.py"


@pytest.mark.parametrize("engine", ENGINES.names())
def test_adapter_says_what_it_runs_and_serves(engine: str) -> None:
    adapter = ENGINES.get(engine)
    assert adapter.formats
    assert adapter.serves <= set(get_args(Serves))
    assert adapter.serves & {"chat", "completion", "embedding", "rerank"}, "vision alone is nothing to ask for"


@pytest.mark.parametrize("engine", ENGINES.names())
def test_adapter_estimates_all_parts_before_a_start(engine: str, tmp_path: Path) -> None:
    model = small_model_for(engine, tmp_path)
    need = ENGINES.get(engine).need(model, OPTIONS)
    assert need.total >= need.model.weights > 0
    assert ENGINES.get(engine).need(model, replace(OPTIONS, context=4096)).total >= need.total
    beside = tmp_path / "beside"
    beside.write_bytes(bytes(5_000_000))
    with_more = replace(model, parts=(*model.parts, PlacedPart("mmproj.gguf", "projector", beside)))
    assert ENGINES.get(engine).need(with_more, OPTIONS).total == need.total + 5_000_000


@pytest.mark.parametrize("engine", ENGINES.names())
def test_command_names_the_model_its_socket_and_its_weights(engine: str, tmp_path: Path, settings: Settings) -> None:
    model = small_model_for(engine, tmp_path)
    words = " ".join(ENGINES.get(engine).command(model, OPTIONS, tmp_path / "w.sock", settings))
    assert all(word in words for word in ("contract", str(tmp_path / "w.sock"), str(model.weights)))


@pytest.mark.parametrize("engine", ["llama_cpp", "llama_server"])
def test_command_names_projector_and_adapters(engine: str, tmp_path: Path, settings: Settings) -> None:
    model = small_model_for(engine, tmp_path)
    adapter = PlacedPart("a.gguf", "adapter", tmp_path / "a.gguf")
    projector = PlacedPart("p.gguf", "projector", tmp_path / "p.gguf")
    with_more = replace(model, parts=(*model.parts, adapter, projector))
    words = " ".join(ENGINES.get(engine).command(with_more, OPTIONS, tmp_path / "w.sock", settings))
    assert str(adapter.place) in words
    assert str(projector.place) in words


def test_what_an_engine_serves_is_narrowed_by_the_model() -> None:
    adapter = ENGINES.get("llama_cpp")
    weights = ModelPart("m.gguf", "weights", Digest("0" * 64), 1)
    plain = InstalledModel(ModelName("m"), weights.digest, 1, "gguf", "", "", {}, (weights,))
    assert serves(adapter, plain) == {"completion"}
    talks = replace(plain, facts={"chat": True})
    assert serves(adapter, talks) == {"chat", "completion"}
    projector = ModelPart("p.gguf", "projector", Digest("1" * 64), 1)
    assert serves(adapter, replace(talks, parts=(weights, projector))) == {"chat", "completion", "vision"}


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_engine_keeps_the_contract(engine: str, tmp_path: Path, settings: Settings) -> None:
    assert ENGINES.get(engine).why_not_here(settings) is None
    model = model_for(engine, tmp_path)

    async def contract() -> int:
        async with running(engine, model, settings, tmp_path) as worker:
            assert stat.S_IMODE(worker.socket.stat().st_mode) & 0o077 == 0
            assert worker.memory() > 10_000_000
            chat = await events(
                worker,
                "/v1/chat/completions",
                {"messages": [{"role": "user", "content": "Hello there"}], "max_tokens": 4},
            )
            text = "".join((c["delta"].get("content") or "") for e in chat for c in e["choices"])
            assert text
            assert {e["model"] for e in chat} == {"contract"}
            assert [c["finish_reason"] for e in chat for c in e["choices"]][-1] in ("stop", "length")
            assert chat[-1]["usage"]["completion_tokens"] >= 1
            plain = await events(worker, "/v1/completions", {"prompt": "a b c", "max_tokens": 3})
            assert "".join(c["text"] for e in plain for c in e["choices"])
            too_long = await worker.post("/v1/completions", {"prompt": "word " * 3000, "stream": True})
            assert too_long.status == 400
            error = (await too_long.json())["error"]
            assert (error["type"], error["n_ctx"]) == ("exceed_context_size_error", 512)
            assert error["n_prompt_tokens"] >= 3000
            return worker.pid

    pid = asyncio.run(contract())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (tmp_path / "worker.sock").exists()


@pytest.mark.parametrize("engine", ENGINE_NAMES)
def test_engine_stops_when_its_client_leaves(engine: str, tmp_path: Path, settings: Settings) -> None:
    model = model_for(engine, tmp_path, delay=0.01, repeat=1000)

    async def busy(worker: Worker) -> bool:
        async with worker._session.get("http://worker/slots") as response:
            return any(slot["is_processing"] for slot in await response.json())

    async def leave() -> float:
        async with running(engine, model, settings, tmp_path) as worker:
            body = {"prompt": "Once", "stream": True, "max_tokens": 400, "ignore_eos": True}
            response = await worker.post("/v1/completions", body)
            await response.content.readany()
            response.close()
            start = time.monotonic()
            while await busy(worker):
                await asyncio.sleep(0.01)
                assert time.monotonic() - start < 5
            return time.monotonic() - start

    assert asyncio.run(leave()) < 1


def test_worker_whose_load_is_cancelled_leaves_no_process(tmp_path: Path, settings: Settings) -> None:
    model = model_for("echo", tmp_path, load="hang")
    socket = tmp_path / "worker.sock"
    command = ENGINES.get("echo").command(model, OPTIONS, socket, settings)

    async def cancel() -> None:
        task = asyncio.create_task(Worker.start("echo", command, socket, tmp_path / "log", 60))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = {child.pid for child in psutil.Process().children()}
    asyncio.run(cancel())
    assert {child.pid for child in psutil.Process().children()} <= before


def test_load_that_hangs_ends_at_the_timeout(tmp_path: Path, settings: Settings) -> None:
    model = model_for("echo", tmp_path, load="hang")
    command = ENGINES.get("echo").command(model, OPTIONS, tmp_path / "w.sock", settings)
    with pytest.raises(EngineError, match="did not load within 0 seconds"):
        asyncio.run(Worker.start("echo", command, tmp_path / "w.sock", tmp_path / "log", 0.4))


def test_program_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    settings = Settings(llama_server=tmp_path / "none")
    assert "not a program" in (ENGINES.get("llama_server").why_not_here(settings) or "")


def test_processor_without_the_wheels_features_is_detected() -> None:
    reason = missing_features("x86_64", frozenset({"sse2", "avx"}))
    assert reason is not None
    assert "avx2" in reason
    assert "llama_server" in reason
    assert missing_features("x86_64", REQUIRED_X86_FEATURES | {"sse2"}) is None
    assert missing_features("aarch64", frozenset({"neon"})) is None
