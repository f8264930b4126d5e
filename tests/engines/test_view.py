"""Models of several files in the pool: a folder of links while they are loaded, and nothing of it afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pantry.core.errors import EngineError
from pantry.core.paths import Paths, make_private
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines.choose import choose_engine, titles_run
from pantry.engines.pool import Pool
from pantry.engines.view import FOLDER, close_files, open_files, remove_leftovers
from pantry.store.models import InstalledModel, NewPart, Store
from tests.engines.test_pool import said, with_pool
from tests.starter_model import starter_gguf


def add(store: Store, folder: Path, format: str = "echo", **model: object) -> InstalledModel:
    """An echo model with a second file beside it."""
    parts = {"deep/model.echo": json.dumps(model), "config.json": "{}"}
    for path, content in parts.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(content)
    new = [NewPart(path, "config" if path == "config.json" else "weights", folder / path) for path in parts]
    return store.add_parts(ModelName("parts"), new, format=format, source="test", facts={"chat": True})


def folders(paths: Paths) -> list[Path]:
    return list((paths.run / FOLDER).glob("*"))


def test_it_is_a_folder_while_loaded_and_gone_when_unloaded(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        model = add(store, tmp_path)
        assert await said(pool, model) == "hello"
        (folder,) = folders(paths)
        assert sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file()) == [
            "config.json",
            "deep/model.echo",
        ]
        assert await pool.unload(model.name)
        assert folders(paths) == []
        assert await said(pool, model) == "hello"

    with_pool(paths, use)
    assert folders(paths) == []


def test_one_file_is_given_where_it_lies(paths: Paths, tiny_gguf: Path) -> None:
    with Store.open(paths) as store:
        model = store.add(ModelName("tiny"), tiny_gguf, format="gguf", source="test", facts={})
        files = open_files(paths.run, model, store.verified_parts(model))
        assert (files.folder, files.weights) == (None, store.verified_file(model))
    assert folders(paths) == []


def test_load_that_fails_leaves_no_folder(paths: Paths, tmp_path: Path) -> None:
    async def use(pool: Pool, store: Store) -> None:
        with pytest.raises(EngineError, match="the echo model says so"):
            await pool.load(add(store, tmp_path, load="fail"))
        assert folders(paths) == []

    with_pool(paths, use)


def test_what_a_killed_service_left_is_removed_at_the_next_start(paths: Paths, tmp_path: Path) -> None:
    make_private(paths.run)
    with Store.open(paths) as store:
        model = add(store, tmp_path)
        open_files(paths.run, model, store.verified_parts(model))
        assert len(folders(paths)) == 1
        Pool(store, Settings(), paths)
        assert folders(paths) == []
        assert len(store.verified_parts(model)) == 2, "the blobs stay"


def test_two_loads_have_folders_of_their_own(paths: Paths, tmp_path: Path) -> None:
    make_private(paths.run)
    with Store.open(paths) as store:
        model = add(store, tmp_path)
        first, second = (open_files(paths.run, model, store.verified_parts(model)) for _ in range(2))
    close_files(first)
    assert folders(paths) == [second.folder]
    close_files(second)
    close_files(second)
    close_files(None)
    remove_leftovers(paths.run)


def test_format_without_an_engine_is_a_clear_error(paths: Paths, tmp_path: Path) -> None:
    with Store.open(paths) as store:
        model = add(store, tmp_path, "safetensors")
        with pytest.raises(EngineError, match="No engine here runs safetensors models") as caught:
            choose_engine(model, Settings(), store.database)
    assert "llama_cpp runs GGUF" in str(caught.value)
    assert titles_run() == "GGUF"


def starter_with_adapter(store: Store, folder: Path, strength: float) -> InstalledModel:
    """The starter model with a low-rank adapter of one matrix beside it, of numbers about as large as `strength`."""
    import gguf
    import numpy as np

    source = gguf.GGUFReader(starter_gguf())
    (matrix,) = [tensor for tensor in source.tensors if tensor.name == "blk.0.ffn_down.weight"]
    columns, rows = (int(each) for each in matrix.shape)
    random = np.random.default_rng(0)

    def noise(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return (strength * random.normal(size=shape)).astype(np.float32)

    file = folder / f"adapter-{strength}.gguf"
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 1.0)
    writer.add_tensor("blk.0.ffn_down.weight.lora_a", noise(1, columns))
    writer.add_tensor("blk.0.ffn_down.weight.lora_b", noise(rows, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    new = [NewPart("model.gguf", "weights", starter_gguf()), NewPart("adapter.gguf", "adapter", file)]
    return store.add_parts(ModelName(f"lora-{strength}"), new, format="gguf", source="test", facts={"context": 256})


@pytest.mark.slow
def test_engine_answers_with_the_adapter_of_the_folder(paths: Paths, tmp_path: Path) -> None:
    async def answer(pool: Pool, model: InstalledModel) -> str:
        async with pool.worker_for(model) as worker:
            body = {"prompt": "Once there was", "max_tokens": 12, "temperature": 0, "stream": False}
            response = await worker.post("/v1/completions", body)
            assert response.status == 200, await response.text()
            return str((await response.json())["choices"][0]["text"])

    async def use(pool: Pool, store: Store) -> None:
        plain = store.add(ModelName("plain"), starter_gguf(), format="gguf", source="test", facts={"context": 256})
        expected = await answer(pool, plain)
        assert await answer(pool, starter_with_adapter(store, tmp_path, 0.0)) == expected
        assert await answer(pool, starter_with_adapter(store, tmp_path, 5.0)) != expected

    with_pool(paths, use)
