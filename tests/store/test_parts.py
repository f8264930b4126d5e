"""Models of several files in the store: one digest over all, shared files, folders of links, garbage, damage."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.core.errors import ConflictError, StorageError, VerificationError
from pantry.core.files import TEMPORARY_PREFIX
from pantry.core.paths import Paths, find_paths
from pantry.core.refs import Digest, ModelName
from pantry.formats.parts import Role, role_of
from pantry.store.garbage import collect, users, verify_all
from pantry.store.models import InstalledModel, NewPart, Store
from pantry.store.packages import NewFile, NewModel, NewPackage, Packages
from tests.store.test_packages import staged

FILES = {"config.json": b"{}", "sub/model.safetensors": b"weights", "tokenizer.json": b"words"}


@pytest.fixture
def store(paths: Paths) -> Iterator[Store]:
    with Store.open(paths) as opened:
        yield opened


def add(store: Store, folder: Path, name: str = "fox", files: dict[str, bytes] | None = None) -> InstalledModel:
    parts = []
    for path, content in (files or FILES).items():
        file = folder / name / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        parts.append(NewPart(path, role_of(path) or "config", file))
    return store.add_parts(ModelName.parse(name), parts, format="safetensors", source="test", facts={"context": 9})


def install(store: Store, files: dict[str, bytes], roles: dict[str, Role], version: str = "1.0") -> None:
    made = [NewFile(path, staged(store, content)) for path, content in files.items()]
    new = NewPackage("owl", version, "model", "It is a test.", Digest("0" * 64), "test")
    Packages(store).install(new, made, NewModel(ModelName("owl"), roles, "safetensors", {}))


def blobs(store: Store) -> set[bytes]:
    return {file.read_bytes() for file in store.blobs.folder.rglob("*") if file.is_file()}


def test_model_of_several_files_is_listed_with_all_of_them(store: Store, tmp_path: Path) -> None:
    model = add(store, tmp_path)
    assert store.list() == [model] == [store.get(model.name)]
    assert [(part.path, part.role, part.size) for part in model.parts] == [
        ("config.json", "config", 2),
        ("sub/model.safetensors", "weights", 7),
        ("tokenizer.json", "tokenizer", 5),
    ]
    assert (model.size, model.facts) == (14, {"context": 9})
    assert model.weights == Digest(hashlib.sha256(b"weights").hexdigest())
    assert store.verified_file(model).read_bytes() == b"weights"


def test_its_digest_is_over_its_files_in_order_of_their_paths(store: Store, tmp_path: Path) -> None:
    raw = b"".join(hashlib.sha256(FILES[path]).digest() for path in sorted(FILES))
    one = add(store, tmp_path, "one")
    two = add(store, tmp_path, "two", dict(reversed(FILES.items())))
    assert one.digest == two.digest == Digest(hashlib.sha256(raw).hexdigest())
    with pytest.raises(ConflictError):
        add(store, tmp_path / "other", "one", FILES | {"tokenizer.json": b"other words"})


def test_adding_the_same_again_is_no_error_and_a_failed_add_leaves_nothing(store: Store, tmp_path: Path) -> None:
    assert add(store, tmp_path) == add(store, tmp_path)
    with pytest.raises(ConflictError):
        add(store, tmp_path / "other", files={"model.safetensors": b"other"})
    assert blobs(store) == set(FILES.values())


def test_shared_files_stay_until_the_last_model_goes(store: Store, tmp_path: Path) -> None:
    add(store, tmp_path, "one")
    add(store, tmp_path, "two", FILES | {"sub/model.safetensors": b"other weights"})
    assert store.remove(ModelName("one")) == len(b"weights")
    assert collect(store).files == 0
    assert blobs(store) == {b"{}", b"words", b"other weights"}
    assert store.remove(ModelName("two")) == len(b"{}wordsother weights")
    assert blobs(store) == set()


def test_garbage_collection_keeps_every_part_and_damage_names_the_model(store: Store, tmp_path: Path) -> None:
    model = add(store, tmp_path)
    assert collect(store).files == 0
    part = model.parts[2]
    assert users(store, part.digest) == ("fox",)
    file = store.blobs.path(part.digest)
    file.chmod(0o600)
    file.write_bytes(b"drows")
    (damage,) = verify_all(store)
    assert (damage.digest, damage.users) == (part.digest, ("fox",))
    with pytest.raises(VerificationError):
        store.verified_parts(model)


def test_package_with_a_model_of_several_files(store: Store) -> None:
    roles: dict[str, Role] = {path: role_of(path) or "config" for path in FILES}
    install(store, FILES | {"README.md": b"read"}, roles)
    model = store.get(ModelName("owl"))
    assert [part.path for part in model.parts] == sorted(FILES)
    assert Packages(store).without_model() == []
    install(store, FILES | {"tokenizer.json": b"new words"}, roles, "2.0")
    assert store.get(ModelName("owl")).digest != model.digest
    assert len(store.get(ModelName("owl")).parts) == 3
    assert blobs(store) == {b"{}", b"weights", b"new words"}
    assert Packages(store).remove(Packages(store).get("owl")) == len(b"{}weightsnew words")
    assert (store.list(), blobs(store)) == ([], set())


def test_folder_of_links_has_the_files_under_their_paths_and_is_read_only(store: Store, tmp_path: Path) -> None:
    model = add(store, tmp_path)
    folder = store.verified_path(model)
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert [each.stat().st_mode & 0o222 for each in (folder, folder / "sub", folder / "config.json")] == [0, 0, 0]
    assert store.verified_path(model) == folder
    assert [each.name for each in store.folders.iterdir()] == [folder.name], "nothing unfinished is left"


def test_folder_of_links_is_made_anew_where_the_home_was_moved(paths: Paths, tmp_path: Path) -> None:
    with Store.open(paths) as store:
        store.verified_path(add(store, tmp_path))
    moved = find_paths({"PANTRY_HOME": str(tmp_path / "moved")})
    moved.data.parent.mkdir(parents=True)
    paths.data.rename(moved.data)
    with Store.open(moved) as store:
        folder = store.verified_path(store.get(ModelName("fox")))
        assert {path: (folder / path).read_bytes() for path in FILES} == FILES


def test_models_of_the_same_files_under_other_paths_have_folders_of_their_own(store: Store, tmp_path: Path) -> None:
    renamed = {path.replace("model", "weights"): content for path, content in FILES.items()}
    one, two = add(store, tmp_path, "one"), add(store, tmp_path, "two", renamed)
    assert one.digest == two.digest
    folders = store.verified_path(one), store.verified_path(two)
    for folder, files in zip(folders, (FILES, renamed), strict=True):
        assert {path: (folder / path).read_bytes() for path in files} == files
    store.remove(one.name)
    assert [folder.exists() for folder in folders] == [False, True]


def test_garbage_collection_leaves_the_folders_that_are_being_made(store: Store, tmp_path: Path) -> None:
    making = store.folders / f"{TEMPORARY_PREFIX}fox"
    making.mkdir(parents=True)
    store.drop_unused_folders()
    assert making.exists()
    os.utime(making, (0, 0))
    store.drop_unused_folders()
    assert not making.exists()


def test_path_that_is_no_text_is_an_error_with_the_next_step_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StorageError) as caught:
        add(store, tmp_path, files=FILES | {os.fsdecode(b"\xffconfig.json"): b"{}"})
    assert caught.value.hint == "Names of files must be text in UTF-8."
    assert store.list() == []


def test_folder_of_links_does_not_make_the_store_read_its_files_again(store: Store, tmp_path: Path) -> None:
    model = add(store, tmp_path)
    stamps = store.database.rows("SELECT digest, stamp, checked_at FROM blobs ORDER BY digest")
    store.verified_path(model)
    store.verified_parts(model)
    assert store.database.rows("SELECT digest, stamp, checked_at FROM blobs ORDER BY digest") == stamps


def test_folder_of_links_goes_with_its_model_or_with_the_garbage(store: Store, tmp_path: Path) -> None:
    model = add(store, tmp_path)
    folder = store.verified_path(model)
    store.remove(model.name)
    assert not folder.exists()
    folder.mkdir()
    (folder / "left").touch()
    collect(store)
    assert not folder.exists()


def test_path_of_a_model_that_is_one_file_is_that_file(store: Store, tiny_gguf: Path) -> None:
    model = store.add(ModelName("tiny"), tiny_gguf, format="gguf", source="test", facts={})
    assert store.verified_path(model) == store.verified_file(model) == store.blobs.path(model.digest)
    assert model.digest == model.parts[0].digest
