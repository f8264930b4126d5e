import errno
import multiprocessing
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.core.errors import ConflictError, ModelNotFoundError, NotFoundError, StorageError, VerificationError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.store.blobs import _clone
from pantry.store.models import InstalledModel, Store


@pytest.fixture
def store(paths: Paths) -> Iterator[Store]:
    with Store.open(paths) as store:
        yield store


def add(store: Store, file: Path, name: str = "tiny") -> InstalledModel:
    return store.add(ModelName.parse(name), file, format="gguf", source=str(file), facts={"context": 512})


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_added_model_is_listed_with_digest_and_facts(store: Store, tiny_gguf: Path) -> None:
    model = add(store, tiny_gguf)
    assert store.list() == [model]
    assert store.verified_file(model).read_bytes() == tiny_gguf.read_bytes()
    assert model.facts == {"context": 512}


def test_stored_file_is_read_only_and_no_link_to_the_source(store: Store, tiny_gguf: Path) -> None:
    path = store.verified_file(add(store, tiny_gguf))
    assert path.stat().st_mode & 0o222 == 0
    assert path.stat().st_ino != tiny_gguf.stat().st_ino


def test_a_stored_file_is_on_the_disk_before_it_is_used(store: Store, tiny_gguf: Path, synced: list[int]) -> None:
    path = store.verified_file(add(store, tiny_gguf))
    assert synced == [path.stat().st_ino, path.parent.stat().st_ino]


def test_a_file_that_shares_the_blocks_of_another_is_on_the_disk_too(
    tiny_gguf: Path, tmp_path: Path, synced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few file systems can share blocks, so the call of the kernel is taken for done here."""
    monkeypatch.setattr("fcntl.ioctl", lambda *_: 0)
    with tiny_gguf.open("rb") as file:
        assert _clone(file, tmp_path / "clone")
    assert synced == [(tmp_path / "clone").stat().st_ino]


def test_the_database_keeps_what_it_said_was_kept(store: Store) -> None:
    """A power cut loses no change that was told as done: SQLite waits for the disk (FULL is 2)."""
    for pragma, value in (("synchronous", 2), ("journal_mode", "wal"), ("foreign_keys", 1)):
        (row,) = store.database.rows(f"PRAGMA {pragma}")
        assert row[0] == value


def test_same_content_under_two_names_is_stored_once_until_both_are_removed(store: Store, tiny_gguf: Path) -> None:
    first, second = add(store, tiny_gguf, "one"), add(store, tiny_gguf, "two")
    assert first.digest == second.digest
    assert store.remove(first.name) == 0
    assert store.verified_file(second).exists()
    assert store.remove(second.name) == tiny_gguf.stat().st_size
    assert files_in(store.blobs.folder) == []


def test_adding_the_same_again_is_no_error(store: Store, tiny_gguf: Path) -> None:
    assert add(store, tiny_gguf) == add(store, tiny_gguf)


def test_taken_name_with_other_content_is_refused_and_leaves_nothing(
    store: Store, tiny_gguf: Path, tmp_path: Path
) -> None:
    kept = add(store, tiny_gguf)
    other = tmp_path / "other.gguf"
    other.write_bytes(tiny_gguf.read_bytes() + b"x")
    with pytest.raises(ConflictError, match="already a model called tiny"):
        add(store, other)
    assert files_in(store.blobs.folder) == [store.verified_file(kept)]


def test_unknown_model_names_the_nearest(store: Store, tiny_gguf: Path) -> None:
    add(store, tiny_gguf, "starter")
    with pytest.raises(ModelNotFoundError) as caught:
        store.get(ModelName.parse("startr"))
    assert caught.value.hint == "Did you mean 'starter'?"


def test_changed_blob_is_found_before_use(store: Store, tiny_gguf: Path) -> None:
    model = add(store, tiny_gguf)
    path = store.verified_file(model)
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"!")
    with pytest.raises(VerificationError, match="damaged"):
        store.verified_file(model)


def test_blob_replaced_by_a_link_is_refused(store: Store, tiny_gguf: Path) -> None:
    model = add(store, tiny_gguf)
    path = store.blobs.path(model.digest)
    path.unlink()
    path.symlink_to(tiny_gguf)
    with pytest.raises(VerificationError, match="not a regular file"):
        store.verified_file(model)


def test_missing_blob_is_named(store: Store, tiny_gguf: Path) -> None:
    model = add(store, tiny_gguf)
    store.blobs.path(model.digest).unlink()
    with pytest.raises(NotFoundError, match="missing from the store"):
        store.verified_file(model)


def test_unfinished_files_are_cleaned_when_old(store: Store, tiny_gguf: Path) -> None:
    add(store, tiny_gguf)
    left = store.blobs.folder / ".tmp-left"
    left.write_bytes(b"half")
    assert store.blobs.clean_unfinished() == 0
    os.utime(left, (0, 0))
    assert store.blobs.clean_unfinished() == 1
    assert len(files_in(store.blobs.folder)) == 1


def test_database_of_a_newer_version_is_refused(paths: Paths) -> None:
    Store.open(paths).close()
    with sqlite3.connect(paths.database) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    with pytest.raises(StorageError, match="newer Pantry"):
        Store.open(paths)


def test_damaged_database_is_named(paths: Paths) -> None:
    paths.database.parent.mkdir(parents=True)
    paths.database.write_bytes(b"this is not a database, but long enough to be read as one" * 100)
    with pytest.raises(StorageError, match="cannot be used"):
        Store.open(paths)


def test_read_only_file_system_is_named(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    Store.open(paths).close()

    def refuse(path: Path, mode: int) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "chmod", refuse)  # only the superuser can make such a file system
    with pytest.raises(StorageError, match=r"cannot be used: .*Read-only file system"):
        Store.open(paths)


def test_unwritable_home_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pantry.core.paths import find_paths

    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("PANTRY_HOME", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="PANTRY_HOME"):
        Store.open(find_paths())


def _add_many(paths: Paths, file: Path, worker: int) -> None:
    with Store.open(paths) as store:
        for number in range(10):
            add(store, file, f"shared-{number % 5}")
            add(store, file, f"own-{worker}-{number}")


def test_several_processes_may_add_at_once(paths: Paths, tiny_gguf: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(paths, tiny_gguf, n)) for n in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    with Store.open(paths) as store:
        assert len(store.list()) == 5 + 3 * 10
