"""The contract of every kind of repository: what it offers, what it hands over, and what it refuses."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from pantry.core.errors import PantryError, VerificationError
from pantry.core.paths import Paths
from pantry.core.refs import Digest
from pantry.repository.entry import Snapshot
from pantry.repository.fetch import Fetcher
from pantry.repository.kinds.memory import MemoryRepository
from pantry.repository.limits import Limits
from pantry.repository.source import KINDS, Place, Repository, open_repository
from tests.repository.flatpacks import Published, make_flatpack
from tests.repository.servers import serving


@dataclasses.dataclass
class Stocked:
    """A repository with one flatpack, the flatpack's content, and a way to change that behind its back."""

    place: Place
    content: bytes
    spoil: Callable[[], None]


@contextlib.contextmanager
def on_disk(tmp_path: Path, kind: str) -> Iterator[Stocked]:
    lab = Published(tmp_path / "lab").create()
    flatpack = make_flatpack(tmp_path / "work")
    lab.publish(flatpack)
    content = flatpack.read_bytes()
    (published,) = (lab.folder / "targets").rglob("*.fpk")

    def spoil() -> None:
        published.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    with contextlib.ExitStack() as held:
        url = held.enter_context(serving(lab.folder)).url if kind == "http" else str(lab.folder)
        yield Stocked(Place("lab", url, lab.root, tmp_path / "state"), content, spoil)


@contextlib.contextmanager
def in_memory(tmp_path: Path) -> Iterator[Stocked]:
    with on_disk(tmp_path, "directory") as source:
        entry = open_repository("directory", source.place).snapshot(fetcher_in(tmp_path)).entries[0]
    files = {entry.path: (entry, source.content)}
    MemoryRepository.CONTENT["stocked"] = files

    def spoil() -> None:
        files[entry.path] = (entry, source.content[:-1])

    yield Stocked(Place("lab", "stocked", b"", tmp_path / "state"), source.content, spoil)
    del MemoryRepository.CONTENT["stocked"]


MAKERS: dict[str, Callable[[Path], AbstractContextManager[Stocked]]] = {
    "http": lambda folder: on_disk(folder, "http"),
    "directory": lambda folder: on_disk(folder, "directory"),
    "memory": in_memory,
}


def fetcher_in(folder: Path) -> Fetcher:
    return Fetcher(folder / "partial", Limits(attempts=1))


@pytest.fixture(params=KINDS.names())
def stocked(request: pytest.FixtureRequest, tmp_path: Path, paths: Paths) -> Iterator[tuple[Repository, Stocked]]:
    with MAKERS[request.param](tmp_path) as made:
        yield open_repository(request.param, made.place), made


def look(repository: Repository, folder: Path) -> tuple[Snapshot, Fetcher]:
    fetcher = fetcher_in(folder)
    return repository.snapshot(fetcher), fetcher


def test_snapshot_names_what_is_offered_and_where_it_is_from(
    stocked: tuple[Repository, Stocked], tmp_path: Path
) -> None:
    snapshot, _ = look(stocked[0], tmp_path)
    (entry,) = snapshot.entries
    assert (snapshot.repository, entry.repository, entry.facts.name, entry.facts.version) == (
        "lab", "lab", "fox", "1.0.0",
    )  # fmt: skip
    assert entry.length == len(stocked[1].content)


def test_fetched_file_has_the_content_and_is_gone_after_the_block(
    stocked: tuple[Repository, Stocked], tmp_path: Path
) -> None:
    repository, made = stocked
    snapshot, fetcher = look(repository, tmp_path)
    told: list[tuple[int, int]] = []
    with repository.fetched(snapshot.entries[0], fetcher, lambda *bytes_done: told.append(bytes_done)) as file:
        assert file.read_bytes() == made.content
    assert not file.exists() or file.is_relative_to(tmp_path / "partial")
    assert told[-1] == (len(made.content), len(made.content))


def test_content_that_was_changed_is_refused(stocked: tuple[Repository, Stocked], tmp_path: Path) -> None:
    repository, made = stocked
    snapshot, fetcher = look(repository, tmp_path)
    made.spoil()
    with pytest.raises(VerificationError), repository.fetched(snapshot.entries[0], fetcher):
        pytest.fail("changed content was handed over")


def test_target_that_is_not_offered_is_not_found(stocked: tuple[Repository, Stocked], tmp_path: Path) -> None:
    repository, _ = stocked
    snapshot, fetcher = look(repository, tmp_path)
    other = dataclasses.replace(
        snapshot.entries[0], path="model/none/none-1.0.0.fpk", digest=Digest.parse(f"sha256:{'0' * 64}")
    )
    with pytest.raises(PantryError), repository.fetched(other, fetcher):
        pytest.fail("something else was handed over")
