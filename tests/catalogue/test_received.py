import json
from pathlib import Path
from typing import Any

import pytest

from pantry.catalogue.lookup import Catalogue
from pantry.catalogue.received import (
    MAX_RECEIVED,
    Received,
    install_entries,
    pack_entries,
    received_entries,
    remove_entries,
)
from pantry.catalogue.rights import Circumstances
from pantry.core.errors import BadFileError, ConflictError, PantryError, UsageError
from pantry.core.paths import Paths

ENTRY = {"id": "m", "name": "M", "family": "x", "sources": ["background"], "checked": "2026-11-21"}
USES = [*("personal", "research", "commercial", "hosted-service"), *("modify", "redistribute", "sell-outputs")]
LOOSE = {
    "id": "anything", "name": "Anything goes", "kind": "permissive", "subject": "model", "basis": "background",
    "sources": ["background"], "checked": "2026-11-21", "grants": dict.fromkeys([*USES, "train-on-outputs"], "allowed"),
}  # fmt: skip


def entries(**fields: object) -> bytes:
    return document(model=[ENTRY | fields])


def document(**kinds: Any) -> bytes:
    return json.dumps({"catalogue": {"format": 1}} | kinds).encode()


def test_entries_are_taken_in_and_replaced_by_newer_ones(paths: Paths) -> None:
    assert install_entries(paths, "club", 1, entries(name="one"), "key 1") == Received("club", 1, "key 1", 1, True)
    assert Catalogue.open(paths).model("m").name == "one"
    install_entries(paths, "club", 2, entries(name="two"), "key 1")
    book = Catalogue.open(paths)
    assert book.model("m").name == "two"
    assert book.origin("model", "m") == "repository club v2"
    (file,) = (paths.data / "catalogue" / "club").iterdir()
    head = {"format": 1, "repository": "club", "version": 2, "signed_by": "key 1"}
    assert json.loads(file.read_text())["catalogue"] == head
    assert received_entries(paths) == [Received("club", 2, "key 1", 1)]


@pytest.mark.parametrize("version", [1, 2])
def test_other_entries_of_an_older_or_equal_version_are_refused(paths: Paths, version: int) -> None:
    install_entries(paths, "club", 2, entries(), "key")
    with pytest.raises(ConflictError, match="version 2 is here"):
        install_entries(paths, "club", version, entries(name="other"), "key")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_same_entries_again_change_nothing(paths: Paths, version: int) -> None:
    install_entries(paths, "club", 2, entries(), "key")
    (file,) = (paths.data / "catalogue" / "club").iterdir()
    before = file.stat().st_mtime_ns
    assert install_entries(paths, "club", version, entries(), "key") == Received("club", 2, "key", 1)
    assert file.stat().st_mtime_ns == before


def test_unsigned_or_misnamed_entries_are_refused(paths: Paths) -> None:
    with pytest.raises(UsageError, match="signed"):
        install_entries(paths, "club", 1, entries(), " ")
    with pytest.raises(UsageError, match="version from 1 up"):
        install_entries(paths, "club", 0, entries(), "key")
    for action in (lambda: install_entries(paths, "../club", 1, entries(), "key"), lambda: remove_entries(paths, "..")):
        with pytest.raises(UsageError, match="not the name"):
            action()
    assert not (paths.data / "catalogue").exists()


HOSTILE = {
    "a wrong field": (entries(context="long"), "context"),
    "an unknown kind": (document(modle=[]), "no kind of entry 'modle'"),
    "no list": (document(model={}), "must be a list"),
    "no head": (b'{"model": []}', "catalogue.format = 1, found None"),
    "a newer format": (b'{"catalogue": {"format": 2}}', "found {'format': 2}"),
    "no table": (b"[]", "must hold a table"),
    "no JSON": (b"id = 1", "cannot be read"),
    "no text": (b"\xff", "cannot be read"),
    "endless nesting": (b'{"model": ' + b"[" * 100_000, "cannot be read"),
    "an endless number": (b'{"model": ' + b"1" * 10_000 + b"}", "cannot be read"),
    "an entry twice": (document(model=[ENTRY, ENTRY]), "two entries with this id"),
    "a circle": (document(model=[ENTRY | {"base": "n"}, ENTRY | {"id": "n", "base": "m"}]), "run in a circle"),
    "a licence that does not parse": (entries(licence="mit AND (("), "field 'licence'.*does not parse"),
    "a licence by the name of another": (
        document(licence=[LOOSE | {"id": "gemma"}]),
        "name of the shipped entry 'gemma-terms'",
    ),
    "text that steers a terminal": (entries(name="\x1b[2J"), "control characters"),
    "half a character": (entries(name="\ud800"), "model 'm', field 'name'"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_entries_are_refused_whole_and_leave_the_old_ones(paths: Paths, case: str) -> None:
    content, message = HOSTILE[case]
    install_entries(paths, "club", 1, entries(name="one"), "key")
    with pytest.raises(BadFileError, match=message):
        install_entries(paths, "club", 2, content, "key")
    assert Catalogue.open(paths).model("m").name == "one"


def test_too_many_bytes_are_refused_before_they_are_read(paths: Paths) -> None:
    with pytest.raises(BadFileError, match="are too many"):
        install_entries(paths, "club", 1, b" " * (MAX_RECEIVED + 1), "key")


def test_entries_go_with_their_repository(paths: Paths) -> None:
    install_entries(paths, "club", 3, entries(), "key")
    install_entries(paths, "lab", 1, entries(id="n", name="N"), "key")
    assert remove_entries(paths, "club")
    assert not remove_entries(paths, "club")
    book = Catalogue.open(paths)
    assert book.find_model("m") is None
    assert book.find_model("n") is not None
    assert install_entries(paths, "club", 1, entries(), "key").changed


def test_damaged_entries_do_not_break_the_catalogue_and_are_replaced(paths: Paths) -> None:
    install_entries(paths, "club", 1, entries(), "key")
    (paths.data / "catalogue" / "club" / "v1.json").write_bytes(b"{")
    book = Catalogue.open(paths)
    assert book.find_model("m") is None
    assert "v1.json cannot be read" in book.problems[0]
    assert received_entries(paths) == []
    install_entries(paths, "club", 2, entries(), "key")
    assert Catalogue.open(paths).find_model("m") is not None


def test_files_are_packed_and_come_out_the_same(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "fox.toml").write_text(
        '[family]\nid = "fox"\nname = "Fox"\norganisation = "Foxes"\n\n[[model]]\nid = "fox-1b"\nname = "Fox 1B"\n'
        'sources = ["background"]\nchecked = "2026-11-21"\n'
    )
    (tmp_path / "bear.toml").write_text(
        '[family]\nid = "bear"\nname = "Bär"\n\n[[model]]\nid = "bear-1b"\nname = "Bär 1B"\nlicence = "mit"\n'
        'sources = ["background"]\nchecked = "2026-11-21"\n'
    )
    files = [tmp_path / "fox.toml", tmp_path / "bear.toml"]
    content = pack_entries(files)
    assert pack_entries(files[::-1]) == content
    assert install_entries(paths, "club", 1, content, "key").count == 4
    book = Catalogue.open(paths)
    assert (book.model("fox-1b").family, book.model("fox-1b").organisation) == ("fox", "Foxes")
    assert book.judge(book.model("bear-1b"), "commercial", Circumstances()).verdict == "allowed"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no catalogue entry"),
        ("[[model]]\nid = 1\n", r"x\.toml:2.*field 'id'"),
        ("[[model", r"x\.toml cannot be read"),
    ],
)
def test_files_that_are_no_catalogue_are_not_packed(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(PantryError, match=message):
        pack_entries([tmp_path / "x.toml"])
