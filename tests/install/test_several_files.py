"""Models of several files, from a folder, a flatpack and the hub, to where an engine would get them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pantry.core.errors import BadFileError, ModelNotFoundError, PolicyRefusedError, UsageError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.core.settings import Settings
from pantry.engines.choose import choose_engine
from pantry.install.installed import add_model, model_path
from pantry.operations.choose import choose
from pantry.operations.models import remove_model
from pantry.operations.pull import download_model, pull
from pantry.store.models import Store
from pantry.store.packages import Packages
from tests.formats.test_model_files import folder_files, gguf, safetensors, written
from tests.install.test_huggingface import hub, offer
from tests.repository.servers import FileServer

__all__ = ["hub"]
PARTS = ["config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
         "model.safetensors.index.json", "tokenizer.json", "tokenizer_config.json"]  # fmt: skip


def fox_folder(folder: Path) -> Path:
    written(folder / "Fox-1B", folder_files())
    return folder / "Fox-1B"


def pantry(home: Path, *words: str) -> str:
    command = [sys.executable, "-W", "error", "-m", "pantry", *words]
    environment = {**os.environ, "PANTRY_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_folder_is_added_under_its_name_with_what_an_engine_needs(paths: Paths, tmp_path: Path) -> None:
    folder = fox_folder(tmp_path)
    with Store.open(paths) as store:
        model = add_model(store, folder)
        assert (str(model.name), model.format) == ("fox-1b", "safetensors")
        assert [part.path for part in model.parts] == PARTS
        assert model.facts["parameters"] == 32
        assert add_model(store, folder) == model
    linked = model_path(paths, "fox-1b")
    assert json.loads((linked / "config.json").read_text())["model_type"] == "qwen3"
    assert remove_model(paths, "fox-1b") == model.size - 2, "two of its files are the same two bytes, kept once"
    assert not linked.exists()


def test_folder_with_gguf_projector_and_adapter_is_one_model(paths: Paths, tmp_path: Path) -> None:
    folder = tmp_path / "seeing"
    written(folder, {"a.gguf": gguf("model"), "mmproj-a.gguf": gguf("mmproj"), "style.gguf": gguf("adapter")})
    with Store.open(paths) as store:
        model = add_model(store, folder, ModelName("seeing"))
        assert {part.path: part.role for part in model.parts} == {
            "a.gguf": "weights",
            "mmproj-a.gguf": "projector",
            "style.gguf": "adapter",
        }
        assert choose_engine(model, Settings(), store.database) in ("llama_cpp", "llama_server")


def test_folder_that_holds_code_in_a_template_is_refused(paths: Paths, tmp_path: Path) -> None:
    folder = fox_folder(tmp_path)
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    with Store.open(paths) as store, pytest.raises(PolicyRefusedError, match=r"chat_template\.jinja is refused"):
        add_model(store, folder)
    (folder / "config.json").unlink()
    with Store.open(paths) as store, pytest.raises(BadFileError, match="holds no model"):
        add_model(store, folder)


def test_hub_model_in_safetensors_is_a_model_that_waits_for_an_engine(paths: Paths, hub: FileServer) -> None:
    offer(hub, folder_files({"modeling_fox.py": b"import os"}), "org/Fox-1B")
    pulled = pull(paths, "hf://org/Fox-1B")
    assert str(pulled.model) == "fox-1b"
    assert "No engine here runs safetensors models" in (pulled.no_engine or "")
    with Store.open(paths) as store:
        model = store.get(ModelName("fox-1b"))
        assert [part.path for part in model.parts] == PARTS
        (package,) = Packages(store).list()
        assert "README.md" in [file.path for file in Packages(store).files(package)]
        assert Packages(store).without_model() == []
    again = pull(paths, "hf://org/Fox-1B")
    assert (again.up_to_date, again.model, again.no_engine) == (True, pulled.model, pulled.no_engine)
    with pytest.raises(UsageError, match="cannot run"):
        download_model(paths, "fox", "hf://org/Fox-1B", lambda done, total: None)
    assert remove_model(paths, "fox-1b") == 0, "it has another name by now"
    assert remove_model(paths, "fox") > 0


def test_pull_mends_a_part_that_was_damaged(paths: Paths, hub: FileServer) -> None:
    offer(hub, folder_files(), "org/Fox-1B")
    pull(paths, "hf://org/Fox-1B")
    with Store.open(paths) as store:
        part = store.get(ModelName("fox-1b")).parts[4]
        store.blobs.path(part.digest).unlink()
    assert not pull(paths, "hf://org/Fox-1B").up_to_date
    with Store.open(paths) as store:
        assert len(store.verified_parts(store.get(ModelName("fox-1b")))) == len(PARTS)


def test_commands_say_what_is_there_and_that_nothing_runs_it(paths: Paths, home: Path, tmp_path: Path) -> None:
    said = pantry(home, "add", str(fox_folder(tmp_path)))
    assert "Added fox-1b" in said
    assert "No engine here runs safetensors models" in said
    listed = pantry(home, "list")
    assert "fox-1b" in listed
    assert "No engine here runs fox-1b." in listed
    shown = pantry(home, "show", "fox-1b")
    assert "tokenizer.json" in shown
    assert "No engine here runs" in shown
    assert "It fits here as U8" in shown
    assert [part["path"] for part in json.loads(pantry(home, "show", "fox-1b", "--json"))["parts"]] == PARTS
    assert (
        Path(pantry(home, "path", "fox-1b").strip(), "model-00001-of-00002.safetensors").read_bytes() == safetensors()
    )


def test_it_is_never_chosen_for_an_app(paths: Paths, tmp_path: Path) -> None:
    with Store.open(paths) as store:
        add_model(store, fox_folder(tmp_path))
    with pytest.raises(ModelNotFoundError, match="no engine here runs safetensors models"):
        choose(paths=paths, mode="requirements_load")
