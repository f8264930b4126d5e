import json
from pathlib import Path

import pytest

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.received import install_entries
from pantry.core.errors import ModelNotFoundError, NotFoundError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.install.installed import add_model
from pantry.operations.catalogue import (
    compare,
    describe,
    describe_any,
    list_entries,
    overlay_changes,
    read_catalogue,
)
from pantry.store.models import Store
from tests.catalogue.shipped import BOOK
from tests.gguf_files import GGUFBuilder, value

ENTRY = {"id": "m", "name": "M", "family": "x", "sources": ["background"], "checked": "2026-11-21"}


def entries(**fields: object) -> bytes:
    return json.dumps({"catalogue": {"format": 1}, "model": [ENTRY | fields]}).encode()


def test_description_has_facts_rights_and_the_titles_of_its_sources() -> None:
    found = describe(BOOK, "qwen3-0.6b")
    assert found.origin == "builtin"
    assert found.family is not None
    assert {answer.use for answer in found.answers} >= {"commercial", "redistribute", "train-on-outputs"}
    assert found.memory is not None
    assert found.download == 380_000_000
    assert any("LocalAI" in title for title in found.sources.values())
    assert json.loads(json.dumps(found.to_json()))["model"]["id"] == "qwen3-0.6b"


def test_remote_model_needs_no_memory() -> None:
    assert describe(BOOK, "gpt-4").memory is None


def test_list_filters_by_text_origin_and_source() -> None:
    assert [entry.id for _, entry in list_entries(BOOK, "licence", text="gemma")] == ["gemma-terms"]
    assert list_entries(BOOK, "model", origin="overlay") == []
    assert {entry.id for _, entry in list_entries(BOOK, "model", source="point-alpaca-readme")} >= {"point-alpaca-7b"}
    assert list_entries(BOOK, "vector-store", source="slides")


def test_overlay_wins_over_repository(paths: Paths) -> None:
    install_entries(paths, "club", 1, entries(name="theirs"), "key")
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True)
    (folder / "own.json").write_bytes(entries(name="ours"))
    assert Catalogue.open(paths).model("m").name == "ours"


def test_differences_are_told_by_entry_and_field(tmp_path: Path, paths: Paths) -> None:
    (tmp_path / "old.json").write_bytes(entries(context=1))
    (tmp_path / "new.json").write_bytes(json.dumps({"model": [ENTRY | {"context": 2}, ENTRY | {"id": "n"}]}).encode())
    old, new = read_catalogue(tmp_path / "old.json"), read_catalogue(tmp_path / "new.json")
    changes = {change.id: change for change in compare(old, new)}
    assert changes["m"].fields == {"context": (1, 2)}
    assert changes["n"].change == "added"
    assert [change.change for change in compare(new, old)] == ["changed", "removed"]
    assert compare(old, old) == []
    install_entries(paths, "club", 1, entries(), "key")
    assert [(change.id, change.change) for change in overlay_changes(paths)] == [("m", "added")]


def test_catalogue_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no file or folder"):
        read_catalogue(tmp_path / "none")


def test_installed_model_is_described_by_what_its_file_is(paths: Paths, tmp_path: Path) -> None:
    def add(name: str, architecture: str, licence: str) -> None:
        builder = GGUFBuilder()
        builder.metadata |= {"general.architecture": value(8, architecture), "general.license": value(8, licence)}
        builder.metadata[f"{architecture}.block_count"] = value(4, 1)
        (tmp_path / name).write_bytes(builder.build())
        with Store.open(paths) as store:
            add_model(store, tmp_path / name, ModelName.parse(name))

    add("qwen3-0.6b", "llama", "cc-by-nc-4.0")
    found = describe_any(paths, BOOK, "qwen3-0.6b")
    assert found.description is None
    assert "knows another model as qwen3-0.6b" in (found.remark or "")
    assert {answer.use: answer.verdict for answer in found.answers}["commercial"] == "refused"
    add("own", "llama", "mit")
    assert describe_any(paths, BOOK, "own").remark is None
    assert describe_any(paths, BOOK, "phi-4").description == describe(BOOK, "phi-4")
    with pytest.raises(ModelNotFoundError, match="There is no model 'phi-44'"):
        describe_any(paths, BOOK, "phi-44")
