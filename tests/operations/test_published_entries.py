"""Catalogue entries that travel with a repository: published, verified, taken in at a look, and gone with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.received import pack_entries, received_entries
from pantry.core.errors import BadFileError
from pantry.core.paths import Paths
from pantry.install.resolve import refresh_repository
from pantry.operations.pull import pull
from pantry.operations.repositories import add_repository, refresh_repositories, remove_repository
from pantry.repository.publish import publish
from tests.repository.flatpacks import Published, make_flatpack, trust_signer
from tests.repository.servers import FileServer, serving

ENTRY = """[[model]]
id = "lab-7b"
name = "{name}"
family = "lab"
sources = ["background"]
checked = "2026-11-21"
"""


@pytest.fixture
def lab(tmp_path: Path) -> Published:
    made = Published(tmp_path / "lab").create()
    made.publish(make_flatpack(tmp_path / "work"))
    return made


@pytest.fixture
def server(lab: Published) -> Iterator[FileServer]:
    with serving(lab.folder) as running:
        yield running


def offer(lab: Published, name: str | None) -> None:
    """Publish one entry of that name, or withdraw all."""
    content = b""
    if name is not None:
        file = lab.folder.parent / "entries.toml"
        file.write_text(ENTRY.format(name=name))
        content = pack_entries([file])
    publish(lab.folder, [], lab.keys, entries=content)


def known(paths: Paths) -> str | None:
    found = Catalogue.open(paths).find_model("lab-7b")
    return found.name if found else None


def test_entries_come_with_a_look_change_with_it_and_go_with_the_repository(
    paths: Paths, lab: Published, server: FileServer
) -> None:
    offer(lab, "Lab 7B")
    looked = add_repository(paths, "lab", server.url, lab.folder / "root.json")
    assert looked.entries is not None
    assert (looked.entries.count, looked.problem, len(looked.snapshot.entries)) == (1, None, 1)
    assert looked.snapshot.skipped == 0
    assert known(paths) == "Lab 7B"
    offer(lab, "Lab 7B, corrected")
    refresh_repositories(paths)
    assert known(paths) == "Lab 7B, corrected"
    offer(lab, None)
    assert refresh_repository(paths, "lab").entries is None
    assert known(paths) is None
    offer(lab, "Lab 7B again")
    refresh_repositories(paths)
    assert known(paths) == "Lab 7B again"
    remove_repository(paths, "lab")
    assert known(paths) is None
    assert received_entries(paths) == []


def test_a_pull_brings_them_too_and_unchanged_ones_are_not_fetched_again(
    paths: Paths, lab: Published, server: FileServer
) -> None:
    trust_signer(paths)
    add_repository(paths, "lab", server.url, lab.folder / "root.json")
    offer(lab, "Lab 7B")
    pull(paths, "fox")
    assert known(paths) == "Lab 7B"
    server.requests.clear()
    publish(lab.folder, [], lab.keys)
    refresh_repositories(paths)
    assert not [path for path in server.paths() if "entries" in path]
    assert known(paths) == "Lab 7B"


def test_entries_without_a_valid_digest_are_left_out_and_flatpacks_still_come(
    paths: Paths, lab: Published, server: FileServer
) -> None:
    trust_signer(paths)
    offer(lab, "Lab 7B")
    (file,) = (lab.folder / "targets" / "catalogue").iterdir()
    file.write_bytes(file.read_bytes().replace(b"Lab 7B", b"Bad 7B"))
    looked = add_repository(paths, "lab", server.url, lab.folder / "root.json")
    assert "digest" in str(looked.problem)
    assert known(paths) is None
    assert pull(paths, "fox").package.version == "1.0.0"


@pytest.mark.parametrize("content", [b"{}", b"not json", b'{"catalogue": {"format": 2}}'])
def test_entries_that_are_wrong_are_told_and_the_old_ones_stay(
    paths: Paths, lab: Published, server: FileServer, content: bytes
) -> None:
    offer(lab, "Lab 7B")
    add_repository(paths, "lab", server.url, lab.folder / "root.json")
    publish(lab.folder, [], lab.keys, entries=content)
    looked = refresh_repository(paths, "lab")
    assert isinstance(looked.problem, BadFileError)
    assert known(paths) == "Lab 7B"


def test_entries_lost_from_the_home_come_again(paths: Paths, lab: Published, server: FileServer) -> None:
    offer(lab, "Lab 7B")
    add_repository(paths, "lab", server.url, lab.folder / "root.json")
    shutil.rmtree(paths.data / "catalogue")
    refresh_repositories(paths)
    assert known(paths) == "Lab 7B"


def test_entries_of_a_format_to_come_are_passed_over(
    paths: Paths, lab: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("pantry.repository.publish.CATALOGUE_CUSTOM", {"kind": "catalogue", "format": 2})
        offer(lab, "Lab 7B")
    looked = add_repository(paths, "lab", str(lab.folder), lab.folder / "root.json")
    assert (looked.entries, looked.problem, looked.snapshot.skipped) == (None, None, 1)
