"""Packages in the store: shared files, versions that make way, garbage, damage."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.core.errors import ConflictError, ModelNotFoundError, NotFoundError, VerificationError
from pantry.core.paths import Paths
from pantry.core.refs import Digest, ModelName
from pantry.store.blobs import Staged
from pantry.store.garbage import collect, users, verify_all
from pantry.store.models import Store
from pantry.store.packages import NewFile, NewModel, NewPackage, Package, Packages


@pytest.fixture
def store(paths: Paths) -> Iterator[Store]:
    with Store.open(paths) as opened:
        yield opened


def staged(store: Store, content: bytes) -> Staged:
    digest = Digest(hashlib.sha256(content).hexdigest())
    store.blobs.folder.mkdir(parents=True, exist_ok=True)
    file = store.blobs.folder / f".tmp-{digest.hex}-{os.getpid()}"
    file.write_bytes(content)
    file.chmod(0o444)
    return Staged(file, digest, len(content))


def install(
    store: Store, name: str, version: str, files: dict[str, bytes], model: str | None = None, tag: str = "latest"
) -> Package:
    new = NewPackage(name, version, "model", "It is a test.", Digest("0" * 64), "test")
    made = [NewFile(path, staged(store, content)) for path, content in files.items()]
    row = NewModel(ModelName(name, tag), {model: "weights"}, "gguf", {"context": 1}) if model else None
    return Packages(store).install(new, made, row)


def blobs(store: Store) -> set[bytes]:
    return {file.read_bytes() for file in store.blobs.folder.rglob("*") if file.is_file()}


def test_package_is_installed_with_its_model(store: Store) -> None:
    package = install(store, "fox", "1.0", {"a.gguf": b"weights", "README.md": b"read"}, "a.gguf")
    assert (package.name, package.version, package.size) == ("fox", "1.0", 11)
    assert [file.path for file in Packages(store).files(package)] == ["README.md", "a.gguf"]
    model = store.get(ModelName("fox"))
    assert store.verified_file(model).read_bytes() == b"weights"
    assert model.facts == {"context": 1}


def test_files_are_shared_between_packages(store: Store) -> None:
    one = install(store, "fox", "1.0", {"a.gguf": b"weights", "LICENSE": b"the same"})
    install(store, "owl", "1.0", {"b.gguf": b"feathers", "LICENSE": b"the same"})
    assert blobs(store) == {b"weights", b"feathers", b"the same"}
    assert Packages(store).remove(one) == len(b"weights")
    assert blobs(store) == {b"feathers", b"the same"}


def test_newer_version_takes_the_name_and_the_older_one_goes(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"old", "LICENSE": b"the same"}, "a.gguf")
    install(store, "fox", "2.0", {"a.gguf": b"new", "LICENSE": b"the same"}, "a.gguf")
    assert store.verified_file(store.get(ModelName("fox"))).read_bytes() == b"new"
    assert [package.version for package in Packages(store).list()] == ["2.0"]
    assert blobs(store) == {b"new", b"the same"}


def test_version_that_was_asked_for_by_name_stays(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"old"}, "a.gguf", tag="1.0")
    install(store, "fox", "2.0", {"a.gguf": b"new"}, "a.gguf")
    assert sorted(str(model.name) for model in store.list()) == ["fox", "fox:1.0"]
    assert blobs(store) == {b"old", b"new"}
    assert Packages(store).get("fox").version == "2.0"
    assert Packages(store).get("fox", "1.0").version == "1.0"


def test_same_version_again_replaces_it_and_keeps_its_models(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf", tag="1.0")
    install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf")
    assert len(store.list()) == 2
    assert len(Packages(store).list()) == 1
    store.remove(ModelName("fox", "1.0"))
    assert blobs(store) == {b"weights"}
    store.remove(ModelName("fox"))
    assert blobs(store) == set()
    assert Packages(store).list() == []


def test_name_of_another_model_is_not_taken(store: Store, tmp_path: Path) -> None:
    mine = tmp_path / "mine.gguf"
    mine.write_bytes(b"my own")
    store.add(ModelName("fox"), mine, format="gguf", source="test", facts={})
    with pytest.raises(ConflictError, match="came from elsewhere"):
        install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf")
    assert store.verified_file(store.get(ModelName("fox"))).read_bytes() == b"my own"
    assert Packages(store).list() == []


def test_removing_the_model_removes_its_package(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"weights", "README.md": b"read"}, "a.gguf")
    assert store.remove(ModelName("fox")) == 11
    assert Packages(store).find("fox") is None
    assert blobs(store) == set()


def test_removing_the_package_removes_its_model(store: Store) -> None:
    package = install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf")
    Packages(store).remove(package)
    with pytest.raises(ModelNotFoundError):
        store.get(ModelName("fox"))


def test_model_that_shares_its_file_with_a_package_leaves_it_there(store: Store, tmp_path: Path) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"weights"})
    file = tmp_path / "same.gguf"
    file.write_bytes(b"weights")
    store.add(ModelName("same"), file, format="gguf", source="test", facts={})
    assert store.remove(ModelName("same")) == 0
    assert verify_all(store) == []


def test_garbage_is_what_nothing_uses(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf")
    stray = store.blobs.path(Digest("ab" * 32))
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"a file without a row")
    with store.database.transaction():
        store.blobs.adopt(staged(store, b"a row without a user"))
    freed = collect(store)
    assert (freed.files, freed.size) == (2, 40)
    assert blobs(store) == {b"weights"}
    assert collect(store).files == 0


def test_damaged_blob_is_found_named_and_not_used(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"weights", "LICENSE": b"text"}, "a.gguf")
    model = store.get(ModelName("fox"))
    path = store.blobs.path(model.digest)
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(b"Weights")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    (damage,) = verify_all(store)
    assert damage.digest == model.digest
    assert damage.users == ("fox", "fox 1.0 (a.gguf)")
    with pytest.raises(VerificationError):
        store.verified_file(model)


def test_missing_blob_is_found(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf")
    store.blobs.path(store.get(ModelName("fox")).digest).unlink()
    (damage,) = verify_all(store)
    assert "missing" in damage.reason


def test_installing_again_mends_the_damage(store: Store) -> None:
    install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf")
    model = store.get(ModelName("fox"))
    path = store.blobs.path(model.digest)
    path.chmod(0o644)
    path.write_bytes(b"Weights")
    assert verify_all(store)
    install(store, "fox", "1.0", {"a.gguf": b"weights"}, "a.gguf")
    assert verify_all(store) == []
    assert store.verified_file(model).read_bytes() == b"weights"


def test_unknown_package_names_the_nearest(store: Store) -> None:
    install(store, "fox", "1.0", {"a": b"x"})
    with pytest.raises(NotFoundError) as caught:
        Packages(store).get("fux")
    assert caught.value.hint == "Did you mean 'fox'?"


def test_users_of_a_blob(store: Store) -> None:
    install(store, "fox", "1.0", {"a": b"x"}, "a", tag="1.0")
    assert users(store, Digest(hashlib.sha256(b"x").hexdigest())) == ("fox 1.0 (a)", "fox:1.0")


def _install_and_collect(paths: Paths, number: int) -> None:
    with Store.open(paths) as store:
        for step in range(8):
            install(store, f"own-{number}", f"{step}", {"a": f"{number} {step}".encode(), "b": b"shared"}, "a")
            collect(store)


def test_installing_and_collecting_in_several_processes_loses_nothing(paths: Paths) -> None:
    Store.open(paths).close()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_install_and_collect, args=(paths, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Store.open(paths) as store:
        assert len(store.list()) == 3
        assert verify_all(store) == []
