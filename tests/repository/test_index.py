"""The index of what repositories offer, references, and the contract of every kind of repository."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, VerificationError
from pantry.core.paths import Paths
from pantry.core.refs import Digest
from pantry.repository.configured import Repositories
from pantry.repository.entry import Custom, Entry, Snapshot, order_of, parse_custom
from pantry.repository.fetch import Fetcher
from pantry.repository.index import Index, Query, has_expired, newest
from pantry.repository.kinds.memory import MemoryRepository
from pantry.repository.refs import FileRef, NamedRef, parse_ref
from pantry.repository.source import KINDS, Place, open_repository
from pantry.store.database import Database
from tests.repository.flatpacks import Published, make_flatpack
from tests.repository.servers import serving


@pytest.fixture
def index(paths: Paths) -> Iterator[Index]:
    with Database(paths.database) as database:
        yield Index(database)


def entry(
    name: str = "fox", version: str = "1.0", *, repository: str = "lab", content: str = "", **facts: object
) -> Entry:
    custom = Custom.model_validate({"kind": "model", "name": name, "version": version, "size": 10, **facts})
    digest = Digest(hashlib.sha256(f"{name} {version} {content}".encode()).hexdigest())
    return Entry(repository, f"{name}/{version}.fpk", 100, digest, custom)


def snapshot(*entries: Entry, repository: str = "lab", expires: str = "2999-01-01T00:00:00+00:00") -> Snapshot:
    return Snapshot(repository, 1, 1, expires, entries)


def names(entries: list[Entry]) -> list[str]:
    return [f"{each.name} {each.version}" for each in entries]


def test_entries_come_change_and_go(index: Index) -> None:
    index.replace(snapshot(entry(), entry("owl", summary="It sees.")))
    assert names(index.search(Query())) == ["fox 1.0", "owl 1.0"]
    index.replace(snapshot(entry("owl", summary="It hears.")))
    assert names(index.search(Query(("hears",)))) == ["owl 1.0"]
    assert index.search(Query(("sees",))) == []
    assert index.search(Query(("fox",))) == []


def test_repositories_do_not_touch_each_other(index: Index) -> None:
    index.replace(snapshot(entry()))
    index.replace(snapshot(entry(version="2.0", repository="other"), repository="other"))
    index.replace(snapshot())
    assert names(index.named("fox")) == ["fox 2.0"]
    index.forget("other")
    assert index.named("fox") == []
    assert set(index.states()) == {"lab"}


class Unread(tuple[Entry, ...]):
    """Entries that may be counted, and not looked at."""

    def __iter__(self) -> Iterator[Entry]:
        raise AssertionError("the entries were read again")


def test_unchanged_metadata_are_not_taken_in_again(index: Index) -> None:
    """A hundred thousand entries would take seconds."""
    index.replace(snapshot(entry(), expires="2030-01-01T00:00:00+00:00"))
    seen = snapshot(expires="2031-01-01T00:00:00+00:00")
    index.replace(replace(seen, entries=Unread((entry(),))))
    assert names(index.named("fox")) == ["fox 1.0"]
    assert index.states()["lab"].expires.startswith("2031")
    for changed in (replace(seen, version=seen.version + 1), replace(seen, root_version=seen.root_version + 1)):
        with pytest.raises(AssertionError, match="read again"):
            index.replace(replace(changed, entries=Unread((entry(),))))


def test_entry_comes_back_as_it_was(index: Index) -> None:
    before = entry(tags=["stories"], licence={"weights": "Apache-2.0"}, capabilities={"coding": 3.5}, base=["org/base"])
    index.replace(snapshot(before))
    assert index.named("fox") == [before]


def test_yanked_entries_are_not_found_by_search(index: Index) -> None:
    index.replace(snapshot(entry(yanked="it bites")))
    assert index.search(Query()) == []
    assert len(index.named("fox")) == 1


def test_rare_words_come_by_how_well_they_fit_and_common_ones_by_name(
    index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.replace(snapshot(entry("ant", summary="A fox and many other animals of the wood."), entry("fox")))
    assert names(index.search(Query(("fox",)))) == ["fox 1.0", "ant 1.0"]
    monkeypatch.setattr("pantry.repository.index.MAX_WEIGHED", 1)
    assert names(index.search(Query(("fox",)))) == ["ant 1.0", "fox 1.0"]
    assert names(index.search(Query(("fox",)), 1)) == ["ant 1.0"]


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1.9.0", "1.10.0"),
        ("1.0.0-beta.2", "1.0.0"),
        ("1.0.0-alpha.beta", "1.0.0"),
        ("2.0rc1", "2.0"),
        ("1.0", "1.0.1"),
    ],
)
def test_versions_are_ordered_by_their_rules(older: str, newer: str) -> None:
    assert order_of(older) < order_of(newer)
    assert newest([entry(version=newer), entry(version=older)]) == entry(version=newer)


def test_prerelease_is_taken_when_there_is_nothing_else() -> None:
    assert newest([entry(version="2.0rc1")]) == entry(version="2.0rc1")
    assert newest([entry(version="2.0rc1"), entry(version="1.0")]) == entry(version="1.0")
    assert newest([entry(yanked="no")]) is None


def test_expiry_is_seen(index: Index) -> None:
    index.replace(snapshot(expires="2001-01-01T00:00:00+00:00"))
    assert has_expired(index.states()["lab"])


@given(st.text(max_size=60))
@example("~nobody-of-that-name")
@example("./a\0.fpk")
def test_any_text_is_a_reference_or_refused(text: str) -> None:
    try:
        ref = parse_ref(text)
    except UsageError:
        return
    if isinstance(ref, NamedRef):
        assert ".." not in ref.name
        assert not ref.name.startswith(("/", "."))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)
    )
)
def test_any_facts_are_facts_or_passed_over(content: object) -> None:
    assert parse_custom(content) is None or isinstance(parse_custom(content), Custom)


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("fox", NamedRef("fox", None)),
        ("Ada/Fox", NamedRef("ada/fox", None)),
        ("ada/fox:1.0.0-beta.1", NamedRef("ada/fox", "1.0.0-beta.1")),
        ("fox.fpk", FileRef(Path("fox.fpk"))),
        ("./fox", FileRef(Path("fox"))),
    ],
)
def test_references(text: str, ref: object) -> None:
    assert parse_ref(text) == ref


def test_configured_repositories_are_kept_in_order(paths: Paths) -> None:
    repositories = Repositories(paths)
    repositories.add("lab", "https://models.example", b"root")
    repositories.add("share", str(paths.data / 'quo"te'), b"root")
    assert [(each.name, each.kind) for each in repositories.list()] == [("lab", "http"), ("share", "directory")]
    assert repositories.list()[1].url == str(paths.data / 'quo"te')
    with pytest.raises(ConflictError):
        repositories.add("lab", "https://other.example", b"root")
    with pytest.raises(NotFoundError) as caught:
        repositories.get("lob")
    assert caught.value.hint == "Did you mean 'lab'?"
    repositories.remove("lab")
    assert [each.name for each in repositories.list()] == ["share"]


def test_remarks_in_the_file_of_repositories_stay(paths: Paths) -> None:
    ours = (
        '# Ours, ask Ada.\n[[repository]]\nname = "lab"  # the fast one\nkind = "http"\nurl = "https://lab.example/"\n'
    )
    paths.config.mkdir(parents=True)
    repositories = Repositories(paths)
    repositories.file.write_text(ours)
    repositories.add("far", "https://far.example", b"root")
    assert repositories.file.read_text().startswith(ours)
    assert [each.name for each in repositories.list()] == ["lab", "far"]
    repositories.remove("far")
    assert repositories.file.read_text() == ours
    repositories.remove("lab")
    assert repositories.file.read_text() == "# Ours, ask Ada.\n"


@pytest.mark.parametrize(
    ("name", "url"), [("../x", "https://a.example"), ("a b", "https://a.example"), ("a", "https://")]
)
def test_bad_repositories_are_refused(paths: Paths, name: str, url: str) -> None:
    with pytest.raises(UsageError):
        Repositories(paths).add(name, url, b"root")
    assert Repositories(paths).list() == ()


def test_wrong_file_of_repositories_names_the_field(paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    Repositories(paths).file.write_text('[[repository]]\nname = "a"\nkind = "http"\nurls = "x"\n')
    with pytest.raises(BadFileError, match="did you mean 'url'"):
        Repositories(paths).list()


@pytest.mark.parametrize("kind", KINDS.names())
def test_every_kind_keeps_the_contract(kind: str, tmp_path: Path) -> None:
    """What a snapshot offers can be fetched, with length and digest; other bytes are refused and not kept."""
    lab = Published(tmp_path / "lab").create()
    fpk = make_flatpack(tmp_path / "work")
    lab.publish(fpk)
    content = fpk.read_bytes()
    fetcher = Fetcher(tmp_path / "partial")
    with serving(lab.folder) as server:
        url = {"http": server.url, "directory": str(lab.folder)}.get(kind, "memory://lab")
        if kind == "memory":
            told = json.loads((lab.folder / "metadata" / "2.targets.json").read_bytes())["signed"]["targets"]
            facts = parse_custom(told["fox/fox-1.0.0.fpk"]["custom"])
            assert facts
            made = Entry("lab", "fox.fpk", len(content), Digest(hashlib.sha256(content).hexdigest()), facts)
            MemoryRepository.CONTENT[url] = {"fox.fpk": (made, content)}
        repository = open_repository(kind, Place("lab", url, lab.root, tmp_path / "state"))
        (found,) = repository.snapshot(fetcher).entries
        assert (found.name, found.length) == ("fox", len(content))
        seen: list[tuple[int, int]] = []
        with repository.fetched(found, fetcher, lambda done, total: seen.append((done, total))) as file:
            assert file.read_bytes() == content
        assert seen[-1] == (len(content), len(content))
        if kind == "memory":
            MemoryRepository.CONTENT[url] = {"fox.fpk": (found, content[:-1] + b"!")}
        else:
            next((lab.folder / "targets").rglob("*.fpk")).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(VerificationError), repository.fetched(found, fetcher):
            pass
        assert list(fetcher.folder.iterdir()) == []
