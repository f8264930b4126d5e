"""Models in several files, from the hub, from this machine, from other runners, in flatpacks: one model each."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import pytest

from examples.starter.engine import Engine
from pantry.core.errors import BadFileError, NotFoundError
from pantry.core.paths import Paths
from pantry.install.installed import add_model, installed_models
from pantry.install.other_runners import add_found, find_models
from pantry.install.split_files import whole_model
from pantry.operations.models import remove_model
from pantry.operations.packages import package_files
from pantry.operations.pull import pull
from pantry.store.models import Store
from tests.formats.test_split import split_model
from tests.install.test_huggingface import REPO, hub, offer
from tests.repository.flatpacks import make_flatpack, trust_signer
from tests.repository.servers import FileServer
from tests.starter_model import starter_gguf

__all__ = ["hub"]


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    (tmp_path / "parts").mkdir()
    return split_model(tmp_path / "parts", "Fox-Q8_0")


def blobs(paths: Paths) -> list[Path]:
    return [file for file in paths.blobs.rglob("*") if file.is_file()]


def test_the_hub_gives_all_parts_and_one_model_comes_of_them(paths: Paths, hub: FileServer, parts: list[Path]) -> None:
    offer(hub, {f"Q8_0/{part.name}": part.read_bytes() for part in parts} | {"README.md": b"# Fox"})
    steps: dict[str, str] = {}
    result = pull(paths, f"hf://{REPO}:q8_0", say=lambda step, words: steps.update({step: words}))
    assert str(result.model) == "fox-1b:q8_0"
    assert steps["joining"] == "3 parts"
    assert result.package.version.endswith("/Q8_0/Fox-Q8_0.gguf")
    (model,) = installed_models(paths)
    assert model.facts["parameters"] == sum(4 * (32 + 32 * n) for n in range(5))
    with Store.open(paths) as store:
        assert len(gguf.GGUFReader(store.verified_file(model)).tensors) == 5
    assert pull(paths, f"hf://{REPO}:q8_0").up_to_date
    named = pull(paths, f"hf://{REPO}/Q8_0/{parts[1].name}")
    assert str(named.model) == "fox-q8_0"
    assert list(paths.partial.glob("*")) == []


def test_the_joined_file_is_on_the_disk(parts: list[Path], tmp_path: Path, synced: list[int]) -> None:
    with whole_model(parts[0], tmp_path / "work") as joined:
        assert synced == [joined.stat().st_ino]


def test_a_part_that_the_hub_does_not_have_is_named(paths: Paths, hub: FileServer, parts: list[Path]) -> None:
    offer(hub, {part.name: part.read_bytes() for part in parts[:2]})
    with pytest.raises(NotFoundError, match="00003-of-00003"):
        pull(paths, f"hf://{REPO}")


@pytest.mark.parametrize("number", [0, 2])
def test_any_part_adds_the_whole_model(paths: Paths, parts: list[Path], number: int) -> None:
    with Store.open(paths) as store:
        model = add_model(store, parts[number])
        again = add_model(store, parts[0])
    assert str(model.name) == "fox-q8_0"
    assert again.digest == model.digest
    assert len(blobs(paths)) == 1
    remove_model(paths, "fox-q8_0")
    assert blobs(paths) == []


def test_a_part_alone_is_no_model(paths: Paths, parts: list[Path], tmp_path: Path) -> None:
    with Store.open(paths) as store:
        parts[1].unlink()
        with pytest.raises(BadFileError, match="00002-of-00003"):
            add_model(store, parts[0])
        hidden = Path(shutil.copy(parts[0], tmp_path / "innocent.gguf"))
        with pytest.raises(BadFileError, match="one of 3 parts"):
            add_model(store, hidden)
    assert blobs(paths) == []


def test_other_runners_parts_are_one_find(paths: Paths, parts: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "user" / ".lmstudio" / "models" / "org" / "fox"
    folder.mkdir(parents=True)
    for part in parts:
        shutil.copy(part, folder)
    snapshot = tmp_path / "user" / ".cache" / "huggingface" / "hub" / "models--org--owl" / "snapshots" / "c1"
    blob = snapshot.parents[1] / "blobs"
    snapshot.mkdir(parents=True)
    blob.mkdir()
    for number, part in enumerate(parts):
        shutil.copy(part, blob / f"{number:064}")
        (snapshot / part.name.replace("Fox", "Owl")).symlink_to(blob / f"{number:064}")
    found = find_models({"HOME": str(tmp_path / "user")})
    assert [str(each.name) for each in found] == ["owl-q8_0", "fox-q8_0"]
    assert found[1].size == sum(part.stat().st_size for part in parts)
    outcomes = list(add_found(paths, found))
    assert [each.error for each in outcomes] == [None, None]
    assert {str(model.name) for model in installed_models(paths)} == {"fox-q8_0", "owl-q8_0"}


def test_a_flatpack_may_hold_parts(paths: Paths, parts: list[Path], tmp_path: Path) -> None:
    trust_signer(paths)
    extra = {part.name: part.read_bytes() for part in parts[1:]}
    fpk = make_flatpack(
        tmp_path / "work",
        content=b"",
        extra=extra | {parts[0].name: parts[0].read_bytes(), "model.gguf": b""},
        facts={"file": parts[0].name},
    )
    assert str(pull(paths, str(fpk)).model) == "fox"
    assert pull(paths, str(fpk)).up_to_date
    names = [file.path for file in package_files(paths, "fox")[1]]
    assert "Fox-Q8_0.gguf" in names
    assert not [name for name in names if "-of-" in name]


@pytest.mark.slow
def test_a_joined_model_answers_as_the_whole_one(paths: Paths, tmp_path: Path) -> None:
    """The starter, cut by the reference library, joined by ours, asked through llama.cpp."""
    source = gguf.GGUFReader(starter_gguf())
    writer = gguf.GGUFWriter(tmp_path / "cut.gguf", "llama", split_max_tensors=20)
    for name, field in source.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind, sub = field.types[0], field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, field.contents(), kind, sub)
    for tensor in source.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    first = min(tmp_path.glob("cut-*.gguf"))
    with Store.open(paths) as store:
        file = store.verified_file(add_model(store, first))
    question = [{"role": "user", "content": "What is the capital of France?"}]
    with Engine(file) as engine:
        assert engine.chat(question).text == "The capital of France is Paris."
