"""Which model a file, a folder or the files of a package are, and what each file is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pantry.core.errors import BadFileError, UsageError
from pantry.formats.kinds import FORMATS, format_called, format_of, is_whole_model
from pantry.formats.model_files import model_in, model_of_file, model_of_folder
from pantry.formats.parts import PlacedPart, is_pickle, may_hold_tensors, role_of, without_format
from tests.gguf_files import GGUFBuilder, value

CONFIG = {"model_type": "qwen3", "max_position_embeddings": 4096, "num_hidden_layers": 2, "vocab_size": 10}


def gguf(kind: str | None = None) -> bytes:
    builder = GGUFBuilder()
    if kind is not None:
        builder.metadata["general.type"] = value(8, kind)
    return builder.build()


def safetensors(elements: int = 8, dtype: str = "U8") -> bytes:
    header = json.dumps({"a": {"dtype": dtype, "shape": [elements], "data_offsets": [0, elements]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(elements)


def written(folder: Path, files: dict[str, bytes]) -> dict[str, Path]:
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return {path: folder / path for path in files}


def roles(parts: tuple[PlacedPart, ...]) -> dict[str, str]:
    return {part.path: part.role for part in parts}


def folder_files(more: dict[str, bytes] | None = None) -> dict[str, bytes]:
    return {
        "config.json": json.dumps(CONFIG).encode(),
        "model-00001-of-00002.safetensors": safetensors(),
        "model-00002-of-00002.safetensors": safetensors(24),
        "model.safetensors.index.json": b"{}",
        "tokenizer.json": b"{}",
        "tokenizer_config.json": b'{"chat_template": "{{ messages }}"}',
        "README.md": b"read",
        **(more or {}),
    }


def test_one_gguf_is_a_model_by_itself(tmp_path: Path) -> None:
    found = model_in(written(tmp_path, {"weights/a.gguf": gguf(), "README.md": b"x", "LICENSE": b"y"}))
    assert found is not None
    assert (found.format.name, roles(found.parts)) == ("gguf", {"weights/a.gguf": "weights"})
    assert found.facts["architecture"] == "llama"


def test_projector_and_adapters_belong_to_the_gguf_beside_them(tmp_path: Path) -> None:
    files = {
        "a.gguf": gguf("model"),
        "mmproj-a.gguf": gguf(),
        "style.gguf": gguf("adapter"),
        "see.gguf": gguf("mmproj"),
    }
    found = model_in(written(tmp_path, files))
    assert found is not None
    assert roles(found.parts) == {
        "a.gguf": "weights", "mmproj-a.gguf": "projector", "see.gguf": "projector", "style.gguf": "adapter",
    }  # fmt: skip


def test_of_two_models_the_one_that_is_named_is_taken_alone(tmp_path: Path) -> None:
    files = written(tmp_path, {"a.gguf": gguf(), "b.gguf": gguf()})
    with pytest.raises(BadFileError, match="are 2 models"):
        model_in(files)
    found = model_in(files, "b.gguf")
    assert found is not None
    assert roles(found.parts) == {"b.gguf": "weights"}


def test_named_file_that_is_missing_is_an_error_and_other_formats_are_not_a_model(tmp_path: Path) -> None:
    files = written(tmp_path, {"a.gguf": gguf(), "b.onnx": b"x"})
    with pytest.raises(BadFileError, match=r"'c\.gguf'"):
        model_in(files, "c.gguf")
    assert model_in(files, "b.onnx") is None


def test_safetensors_folder_is_a_model_with_all_an_engine_needs(tmp_path: Path) -> None:
    found = model_in(written(tmp_path, folder_files()))
    assert found is not None
    assert found.format.name == "safetensors"
    assert roles(found.parts) == {
        "config.json": "config",
        "model-00001-of-00002.safetensors": "weights",
        "model-00002-of-00002.safetensors": "weights",
        "model.safetensors.index.json": "config",
        "tokenizer.json": "tokenizer",
        "tokenizer_config.json": "tokenizer",
    }
    facts = {key: found.facts[key] for key in ("architecture", "parameters", "quantisation", "context", "chat")}
    assert facts == {
        "architecture": "qwen3", "parameters": 32, "quantisation": "U8", "context": 4096, "chat": True,
    }  # fmt: skip
    architecture, kind = found.format.architecture(found.parts)
    assert (architecture.weights, len(architecture.layers), architecture.context, kind) == (32, 2, 4096, "U8")


@pytest.mark.parametrize("config", [b"{}", b"[]", b"{", b'{"model_type": 3}', None])
def test_tensors_without_a_config_that_names_the_model_are_not_a_model(tmp_path: Path, config: bytes | None) -> None:
    files = {name: content for name, content in folder_files().items() if name != "config.json"}
    assert model_in(written(tmp_path, files | ({"config.json": config} if config is not None else {}))) is None


def test_adapter_alone_is_not_a_model(tmp_path: Path) -> None:
    files = {"adapter_model.safetensors": safetensors(), "config.json": json.dumps(CONFIG).encode()}
    assert model_in(written(tmp_path, files)) is None


def test_folder_is_looked_through_without_what_is_hidden(tmp_path: Path) -> None:
    written(tmp_path, folder_files({".cache/old.gguf": gguf(), "code.py": b"import os"}))
    assert "code.py" not in roles(model_of_folder(tmp_path).parts)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadFileError, match="holds no model"):
        model_of_folder(tmp_path / "empty")


def test_damaged_weights_of_a_folder_are_refused(tmp_path: Path) -> None:
    files = written(tmp_path, folder_files())
    files["model-00002-of-00002.safetensors"].write_bytes(safetensors(24)[:-3])
    with pytest.raises(BadFileError, match="cut short"):
        model_in(files)


def test_one_file_of_a_folder_asks_for_the_folder(tmp_path: Path) -> None:
    file = written(tmp_path, {"model.safetensors": safetensors()})["model.safetensors"]
    with pytest.raises(BadFileError, match="not a whole model") as caught:
        model_of_file(file)
    assert str(tmp_path) in str(caught.value.hint)
    with pytest.raises(UsageError, match="not a regular file"):
        model_of_file(tmp_path)


def test_file_without_a_suffix_is_read_as_what_it_is(tmp_path: Path) -> None:
    file = written(tmp_path, {"sha256-abc": gguf()})["sha256-abc"]
    assert roles(model_of_file(file).parts) == {"model.gguf": "weights"}


def test_every_part_is_scanned_under_its_own_name(tmp_path: Path) -> None:
    bad = json.dumps({"chat_template": "{{ ''.__class__.__mro__ }}"}).encode()
    found = model_in(written(tmp_path, folder_files({"tokenizer_config.json": bad})))
    assert found is not None
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    stored = [PlacedPart(each.path, each.role, each.place.rename(blobs / str(n))) for n, each in enumerate(found.parts)]
    verdict = found.format.scan(stored)
    assert verdict is not None
    assert verdict.level == "refused"
    assert any("tokenizer_config.json" in str(finding) for finding in verdict.findings)


@pytest.mark.parametrize(
    ("path", "role"),
    [
        ("a.gguf", "weights"), ("x/mmproj-F16.gguf", "projector"), ("model.safetensors", "weights"),
        ("adapter_model.safetensors", "adapter"), ("generation_config.json", "config"), ("vocab.json", "tokenizer"),
        ("tokenizer.model", "tokenizer"), ("chat_template.jinja", "template"), ("README.md", None),
        ("modeling_fox.py", None), ("a.bin", None),
    ],
)  # fmt: skip
def test_role_is_told_by_the_name(path: str, role: str | None) -> None:
    assert role_of(path) == role


def test_questions_about_names() -> None:
    assert is_pickle("a/pytorch_model.BIN")
    assert not is_pickle("model.safetensors")
    assert all(map(may_hold_tensors, ("a.gguf", "a.safetensors", "a.pt")))
    assert [without_format(name) for name in ("Fox-1B-GGUF", "fox.safetensors", "ggufs")] == ["Fox-1B", "fox", "ggufs"]
    assert [is_whole_model(name) for name in ("a.GGUF", "a.safetensors", "a.echo")] == [True, False, False]


@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: str(kind.name))
def test_format_is_found_by_what_the_store_calls_it_and_by_its_suffix(kind: Any) -> None:
    assert format_called(kind.name) is kind
    assert not kind.suffix or format_of(f"x{kind.suffix}") is kind


def test_format_of_an_engine_from_elsewhere_is_a_bare_name() -> None:
    kind = format_called("onnx")
    assert (kind.title, kind.remote, kind.tensors) == ("onnx", False, False)
    assert kind.scan(()) is None
    with pytest.raises(BadFileError, match="cannot be estimated"):
        kind.architecture(())


def index_of(*names: str) -> dict[str, bytes]:
    listed = {"weight_map": {f"t{number}": name for number, name in enumerate(names)}}
    return {"model.safetensors.index.json": json.dumps(listed).encode()}


@pytest.mark.parametrize("missing", ["model-00003-of-00003.safetensors", "../../outside.safetensors"])
def test_a_folder_without_a_file_of_weights_that_its_index_lists_is_refused(tmp_path: Path, missing: str) -> None:
    files = folder_files(index_of("model-00001-of-00002.safetensors", missing))
    written(tmp_path, files)
    with pytest.raises(BadFileError) as caught:
        model_of_folder(tmp_path)
    assert caught.value.message == f"{missing} is missing: model.safetensors.index.json lists 2 files of weights."


def test_an_index_is_heeded_where_its_files_are_and_not_beside_the_whole_file(tmp_path: Path) -> None:
    shards = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    written(tmp_path / "parts", {f"sub/{path}": file for path, file in folder_files(index_of(*shards)).items()})
    assert model_of_folder(tmp_path / "parts").facts["parameters"] == 32
    left = {"config.json": json.dumps(CONFIG).encode(), "model.safetensors": safetensors()} | index_of(*shards)
    written(tmp_path / "whole", left)
    assert model_of_folder(tmp_path / "whole").facts["parameters"] == 8
