"""Repositories with TUF metadata: what an honest one offers, and the attacks that TUF is there for."""

from __future__ import annotations

import contextlib
import copy
import datetime
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata

from pantry.core.errors import (
    BadFileError,
    ConflictError,
    DownloadError,
    NotFoundError,
    PantryError,
    UnauthorisedError,
    UsageError,
    VerificationError,
)
from pantry.core.locks import locked
from pantry.flatpack.archive.archive import Reader
from pantry.flatpack.signing.keys import new_key
from pantry.repository import _tuf
from pantry.repository._roles import Lifetimes
from pantry.repository.entry import Entry, Snapshot
from pantry.repository.fetch import Fetcher
from pantry.repository.kinds.http import HttpReader
from pantry.repository.limits import Limits
from pantry.repository.publish import key_ids, publish, tuf_key_id, yank
from pantry.repository.root_change import create, rotate
from pantry.repository.roots import check_root
from pantry.repository.source import KINDS, Place, open_repository
from tests.repository.flatpacks import Published, make_flatpack
from tests.repository.servers import Faults, FileServer, serving

QUICK = Limits(
    connect_timeout=2, read_timeout=2, header_timeout=0.4, slow_window=0.4, minimum_rate=1000, attempts=2, back_off=0.01
)


@pytest.fixture
def lab(tmp_path: Path) -> Published:
    """A repository with one flatpack."""
    made = Published(tmp_path / "lab").create()
    made.publish(make_flatpack(tmp_path / "work"))
    return made


@pytest.fixture
def server(lab: Published) -> Iterator[FileServer]:
    with serving(lab.folder) as running:
        yield running


@pytest.fixture
def fetcher(tmp_path: Path) -> Fetcher:
    return Fetcher(tmp_path / "partial", QUICK)


@pytest.fixture
def place(lab: Published, server: FileServer, tmp_path: Path) -> Place:
    return Place("lab", server.url, lab.root, tmp_path / "state")


def look(place: Place, fetcher: Fetcher) -> Snapshot:
    return open_repository("http" if place.url.startswith("http") else "directory", place).snapshot(fetcher)


def names(snapshot: Snapshot) -> list[str]:
    return sorted(f"{entry.name} {entry.version}" for entry in snapshot.entries)


def fetch(place: Place, entry: Entry, fetcher: Fetcher) -> bytes:
    kind = "http" if place.url.startswith("http") else "directory"
    with open_repository(kind, place).fetched(entry, fetcher) as file:
        return file.read_bytes()


def rewrite(file: Path, **signed: object) -> None:
    """Change fields of a metadata file without signing it."""
    content = json.loads(file.read_bytes())
    content["signed"].update(signed)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("kind", ["http", "directory"])
def test_repository_offers_what_was_published(kind: str, place: Place, lab: Published, fetcher: Fetcher) -> None:
    place = place if kind == "http" else replace(place, url=str(lab.folder))
    snapshot = look(place, fetcher)
    (entry,) = snapshot.entries
    assert (entry.name, entry.version, entry.facts.kind) == ("fox", "1.0.0", "model")
    assert entry.facts.tags == ("stories",)
    assert entry.facts.licence.weights == "Apache-2.0"
    assert entry.facts.size
    assert snapshot.root_version == 1
    content = fetch(place, entry, fetcher)
    assert len(content) == entry.length
    assert list(fetcher.folder.iterdir()) == []


def test_every_kind_is_registered_and_loads() -> None:
    assert KINDS.names() == ["directory", "http", "memory"]
    for name in KINDS.names():
        assert hasattr(KINDS.get(name), "snapshot")
        assert hasattr(KINDS.get(name), "where")


def test_second_look_fetches_the_timestamp_only(place: Place, fetcher: Fetcher, server: FileServer) -> None:
    look(place, fetcher)
    server.requests.clear()
    look(place, fetcher)
    assert server.paths() == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_rollback_to_an_older_state_is_refused(place: Place, fetcher: Fetcher, lab: Published, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(lab.folder, old)
    lab.publish(make_flatpack(tmp_path / "work", version="1.1.0"))
    assert names(look(place, fetcher)) == ["fox 1.0.0", "fox 1.1.0"]
    shutil.rmtree(lab.folder)
    shutil.copytree(old, lab.folder)
    with pytest.raises(VerificationError, match="rollback"):
        look(place, fetcher)


def test_freeze_with_an_expired_timestamp_is_refused(place: Place, fetcher: Fetcher, lab: Published) -> None:
    publish(lab.folder, [], lab.keys, life=Lifetimes(timestamp=-1))
    with pytest.raises(VerificationError, match="has expired"):
        look(place, fetcher)


def test_mix_and_match_of_two_states_is_refused(place: Place, fetcher: Fetcher, lab: Published, tmp_path: Path) -> None:
    """The targets of one state under the snapshot of another, both validly signed."""
    old = next((lab.folder / "metadata").glob("2.targets.json")).read_bytes()
    lab.publish(make_flatpack(tmp_path / "work", version="1.1.0"))
    (lab.folder / "metadata" / "3.targets.json").write_bytes(old)
    with pytest.raises(VerificationError, match="older than before, or mixed"):
        look(place, fetcher)


def test_changed_metadata_are_refused(place: Place, fetcher: Fetcher, lab: Published) -> None:
    file = lab.folder / "metadata" / "2.targets.json"
    content = json.loads(file.read_bytes())
    content["signed"]["targets"] = {}
    file.write_text(json.dumps(content))
    with pytest.raises(VerificationError, match="is not signed by its trusted keys"):
        look(place, fetcher)


def test_wrong_root_is_refused(place: Place, fetcher: Fetcher, tmp_path: Path) -> None:
    other = Published(tmp_path / "other").create()
    with pytest.raises(VerificationError, match="is not signed by its trusted keys"):
        look(replace(place, root=other.root), fetcher)


@pytest.mark.parametrize("content", [b"", b"{}", b"<html>", b"[" * 100_000])
def test_root_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(BadFileError, match="not a TUF root"):
        check_root(content, "root.json")


def test_root_that_was_changed_is_refused(lab: Published) -> None:
    content = json.loads(lab.root)
    content["signed"]["expires"] = "2999-01-01T00:00:00Z"
    with pytest.raises(BadFileError, match="signed by its own keys"):
        check_root(json.dumps(content).encode(), "root.json")


@pytest.mark.parametrize("name", ["timestamp.json", "2.root.json", "2.snapshot.json", "2.targets.json"])
def test_login_page_in_place_of_metadata(place: Place, fetcher: Fetcher, server: FileServer, name: str) -> None:
    server.faults = Faults(html=True, only=name)
    with pytest.raises(PantryError) as caught:
        look(place, fetcher)
    assert caught.value.code in ("verification_failed", "download_failed")


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json"])
def test_endless_metadata_are_cut(place: Place, fetcher: Fetcher, server: FileServer, name: str) -> None:
    server.faults = Faults(endless=True, only=name)
    with pytest.raises(VerificationError, match="more than its metadata"):
        look(place, fetcher)


@pytest.mark.parametrize("limit", ["MAX_SNAPSHOT", "MAX_TARGETS"])
def test_metadata_may_be_as_long_as_their_limit(
    place: Place, fetcher: Fetcher, lab: Published, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    name = "2.snapshot.json" if limit == "MAX_SNAPSHOT" else "2.targets.json"
    size = (lab.folder / "metadata" / name).stat().st_size
    monkeypatch.setattr(_tuf, limit, size - 1)
    with pytest.raises(VerificationError, match="more than its metadata"):
        look(place, fetcher)
    monkeypatch.setattr(_tuf, limit, size)
    assert names(look(place, fetcher)) == ["fox 1.0.0"]


def test_one_process_at_a_time_brings_the_metadata_up_to_date(
    place: Place, server: FileServer, fetcher: Fetcher
) -> None:
    asked: list[list[str]] = []
    with contextlib.ExitStack() as held:
        held.enter_context(locked(place.state / "refresh.lock"))

        def waiting() -> None:
            asked.append(server.paths())
            held.close()

        assert names(_tuf.refresh(place, f"{server.url}/", HttpReader(fetcher.limits), waiting)) == ["fox 1.0.0"]
    assert asked == [[]]


def test_slow_loris_metadata_are_given_up(place: Place, fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(drip=0.02, only="timestamp")
    with pytest.raises(DownloadError, match="less than 1000 bytes a second"):
        look(place, fetcher)


def test_cut_metadata_are_refused_and_the_next_look_works(place: Place, fetcher: Fetcher, server: FileServer) -> None:
    server.faults = Faults(cut_at=100, only="snapshot")
    with pytest.raises(DownloadError, match="cannot be read"):
        look(place, fetcher)
    server.faults = Faults()
    assert names(look(place, fetcher)) == ["fox 1.0.0"]


def test_repository_that_disappears_says_so(lab: Published, fetcher: Fetcher, tmp_path: Path) -> None:
    with serving(lab.folder) as server:
        place = Place("lab", server.url, lab.root, tmp_path / "state")
        look(place, fetcher)
    with pytest.raises(DownloadError, match="cannot be read") as caught:
        look(place, fetcher)
    assert "PANTRY_OFFLINE" in (caught.value.hint or "")


def test_target_swapped_for_another_signed_one_is_refused(
    place: Place, fetcher: Fetcher, lab: Published, tmp_path: Path
) -> None:
    (entry,) = look(place, fetcher).entries
    other = make_flatpack(tmp_path / "work", "otter")
    next((lab.folder / "targets").rglob("*.fpk")).write_bytes(other.read_bytes())
    with pytest.raises((VerificationError, DownloadError)):
        fetch(place, entry, fetcher)
    with pytest.raises(VerificationError, match="not what was published"):
        fetch(replace(place, url=str(lab.folder)), entry, fetcher)


def test_root_key_rotation_is_followed_from_the_first_root(
    place: Place, fetcher: Fetcher, lab: Published, tmp_path: Path
) -> None:
    new_root, new_online = new_key("p256"), new_key("p384")
    root = rotate(
        lab.folder,
        [*lab.keys, new_root, new_online],
        online=new_online.public,
        add_root=[new_root.public],
        remove_root=[tuf_key_id(lab.root_key.public)],
    )
    assert (root.version, root.missing) == (2, 0)
    publish(lab.folder, [make_flatpack(tmp_path / "work", version="2.0.0")], [new_root, new_online])
    snapshot = look(place, fetcher)
    assert snapshot.root_version == 2
    assert names(snapshot) == ["fox 1.0.0", "fox 2.0.0"]


def test_revoked_online_key_cannot_publish(place: Place, fetcher: Fetcher, lab: Published, tmp_path: Path) -> None:
    """Whoever stole the old online key signs a newer state with it: clients that know the new root refuse it."""
    stolen = copy.deepcopy(lab.online_key)
    new_online = new_key("p256")
    rotate(lab.folder, [*lab.keys, new_online], online=new_online.public)
    assert look(place, fetcher).root_version == 2
    forged = tmp_path / "forged"
    shutil.copytree(lab.folder, forged)
    (forged / "metadata" / "2.root.json").unlink()
    publish(forged, [make_flatpack(tmp_path / "work", version="6.6.6")], [stolen])
    for file in (forged / "metadata").glob("*.json"):
        shutil.copy(file, lab.folder / "metadata" / file.name)
    with pytest.raises(VerificationError, match="is not signed by its trusted keys"):
        look(place, fetcher)


def test_old_keys_cannot_publish_after_rotation(lab: Published, tmp_path: Path) -> None:
    new_online = new_key("p256")
    rotate(lab.folder, [*lab.keys, new_online], online=new_online.public)
    with pytest.raises(UnauthorisedError, match="needs 1"):
        lab.publish(make_flatpack(tmp_path / "work", version="2.0.0"))


def test_root_by_fewer_keys_than_its_threshold_is_a_draft_that_no_client_takes(tmp_path: Path) -> None:
    keys = [new_key("p256") for _ in range(3)]
    online = new_key("p256")
    publics = [key.public for key in keys]
    assert create(tmp_path / "a", publics, online.public, [keys[0], online], threshold=2).missing == 1
    assert not list((tmp_path / "a").rglob("*root.json"))
    with pytest.raises(BadFileError, match="signed by its own keys"):
        check_root((tmp_path / "a" / "root.draft.json").read_bytes(), "root")
    with pytest.raises(UnauthorisedError, match="none is here"):
        create(tmp_path / "d", publics, online.public, [online], threshold=2)
    with pytest.raises(UsageError, match="cannot be met"):
        create(tmp_path / "b", publics, online.public, [*keys, online], threshold=4)
    create(tmp_path / "c", publics, online.public, [*keys[1:], online], threshold=2)
    root = (tmp_path / "c" / "metadata" / "1.root.json").read_bytes()
    assert check_root(root, "root") == 1
    half = Metadata.from_bytes(root)
    half.signatures.popitem()
    with pytest.raises(BadFileError, match="signed by its own keys"):
        check_root(half.to_bytes(), "root")


def test_yanked_version_is_marked(place: Place, fetcher: Fetcher, lab: Published) -> None:
    yank(lab.folder, "fox", "1.0.0", "it bites", lab.keys)
    (entry,) = look(place, fetcher).entries
    assert entry.facts.yanked == "it bites"
    with pytest.raises(NotFoundError, match="no fox 2"):
        yank(lab.folder, "fox", "2", "", lab.keys)


def test_version_cannot_be_published_with_other_content(lab: Published, tmp_path: Path) -> None:
    changed = make_flatpack(tmp_path / "again", content=b"GGUF other")
    with pytest.raises(ConflictError, match="published with other content"):
        lab.publish(changed)


def test_unsigned_and_damaged_flatpacks_are_not_published(lab: Published, tmp_path: Path) -> None:
    before = sorted((lab.folder / "metadata").iterdir())
    with pytest.raises(BadFileError, match="not signed"):
        lab.publish(make_flatpack(tmp_path / "work", "owl", key=None))
    good = make_flatpack(tmp_path / "work", "bat")
    content = bytearray(good.read_bytes())
    content[200] ^= 1
    good.write_bytes(content)
    with pytest.raises(BadFileError):
        lab.publish(good)
    assert sorted((lab.folder / "metadata").iterdir()) == before


def test_repository_is_not_made_twice(lab: Published) -> None:
    with pytest.raises(ConflictError, match="holds a repository already"):
        lab.create()


def test_keys_of_the_roles_are_listed(lab: Published) -> None:
    ids = key_ids(lab.folder)
    assert ids["root"] == [tuf_key_id(lab.root_key.public)]
    assert ids["timestamp"] == [tuf_key_id(lab.online_key.public)]


def test_published_flatpack_is_the_file_itself(lab: Published) -> None:
    (file,) = (lab.folder / "targets").rglob("*.fpk")
    with Reader(file) as reader:
        assert reader.manifest.name == "fox"


@pytest.mark.parametrize("path", ["../../evil.fpk", "/etc/evil.fpk", "a/../../evil.fpk", "evil.exe", "a\\b.fpk"])
def test_targets_that_leave_the_folder_are_passed_over(
    place: Place, fetcher: Fetcher, lab: Published, path: str
) -> None:
    """A publisher that means harm signs such a path itself: the signature is right, the path is not taken."""
    from pantry.repository._roles import Roles, Signers

    roles = Roles.load(lab.folder)
    target = roles.targets.signed.targets.pop("fox/fox-1.0.0.fpk")
    target.path = path
    roles.targets.signed.targets[path] = target
    roles.write_online(Signers.of(lab.keys), Lifetimes())
    snapshot = look(place, fetcher)
    assert snapshot.entries == ()
    assert snapshot.skipped == 1


@pytest.mark.parametrize(
    "custom", [None, [], {"kind": "virus"}, {"kind": "model", "name": "../x", "version": "1"}, {"kind": "model"}]
)
def test_targets_with_strange_facts_are_passed_over(
    place: Place, fetcher: Fetcher, lab: Published, custom: object
) -> None:
    from pantry.repository._roles import Roles, Signers

    roles = Roles.load(lab.folder)
    roles.targets.signed.targets["fox/fox-1.0.0.fpk"].unrecognized_fields["custom"] = custom
    roles.write_online(Signers.of(lab.keys), Lifetimes())
    assert look(place, fetcher).skipped == 1


def test_expiry_is_told(place: Place, fetcher: Fetcher) -> None:
    expires = datetime.datetime.fromisoformat(look(place, fetcher).expires)
    assert expires > datetime.datetime.now(datetime.UTC)


def test_folder_that_is_gone(place: Place, fetcher: Fetcher, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="is not there"):
        look(replace(place, url=str(tmp_path / "none")), fetcher)
