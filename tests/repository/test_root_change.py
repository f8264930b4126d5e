"""Roots that need several keys, held on machines that share nothing but a file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UnauthorisedError
from pantry.flatpack.signing.keys import PrivateKey, new_key
from pantry.repository.fetch import Fetcher
from pantry.repository.publish import publish, tuf_key_id
from pantry.repository.root_change import DRAFT, MAX_DRAFT, create, read_draft, rotate, sign_draft
from pantry.repository.source import Place, open_repository
from tests.repository.flatpacks import make_flatpack

pytestmark = pytest.mark.usefixtures("ready_rsa_keys")


@pytest.fixture
def keys() -> list[PrivateKey]:
    return [new_key("p256"), new_key("rsa4096"), new_key("p256")]


@pytest.fixture
def online() -> PrivateKey:
    return new_key("p256")


@pytest.fixture
def folder(tmp_path: Path, keys: list[PrivateKey], online: PrivateKey) -> Path:
    """A repository whose root waits for a second of three signatures; the first holder has the online key."""
    state = create(tmp_path / "lab", [key.public for key in keys], online.public, [keys[0], online], threshold=2)
    assert (state.file.name, state.missing, len(state.signed), len(state.unsigned)) == (DRAFT, 1, 1, 2)
    return tmp_path / "lab"


def copy_of(folder: Path, name: str) -> Path:
    return Path(shutil.copy(folder / DRAFT, folder.parent / name))


def root_version(folder: Path, root: Path) -> int:
    """What a client that knows that root sees."""
    state = folder.parent / f"state-{root.name}"
    place = Place("lab", str(folder), root.read_bytes(), state)
    return open_repository("directory", place).snapshot(Fetcher(folder.parent / "partial")).root_version


def test_the_second_holder_signs_a_copy_and_the_first_completes(
    folder: Path, keys: list[PrivateKey], online: PrivateKey, tmp_path: Path
) -> None:
    copy = copy_of(folder, "to-b.json")
    there = sign_draft(copy, [keys[1]])
    assert (there.file, there.missing, len(there.signed)) == (copy, 0, 2)
    done = sign_draft(folder, [], [copy], [online])
    assert (done.file, done.version, done.missing) == (folder / "root.json", 1, 0)
    assert not (folder / DRAFT).exists()
    publish(folder, [make_flatpack(tmp_path / "work")], [online])
    assert root_version(folder, folder / "root.json") == 1


def test_on_a_shared_folder_nobody_needs_copies(folder: Path, keys: list[PrivateKey], online: PrivateKey) -> None:
    waiting = sign_draft(folder, [keys[2]])
    assert (waiting.file.name, waiting.missing) == (DRAFT, 0)
    assert sign_draft(folder, [], kept=[online]).file.name == "root.json"


def test_copies_signed_apart_are_put_together(tmp_path: Path, keys: list[PrivateKey], online: PrivateKey) -> None:
    folder = tmp_path / "strict"
    create(folder, [key.public for key in keys], online.public, [keys[0], online], threshold=3)
    copies = [copy_of(folder, "b.json"), copy_of(folder, "c.json")]
    for copy, key in zip(copies, keys[1:], strict=True):
        sign_draft(copy, [key])
    assert sign_draft(folder, [], copies, [online]).missing == 0
    assert (folder / "root.json").exists()


def test_a_rotation_needs_the_old_keys_and_the_new_ones(
    folder: Path, keys: list[PrivateKey], online: PrivateKey, tmp_path: Path
) -> None:
    sign_draft(folder, [keys[1]], kept=[online])
    first = Path(shutil.copy(folder / "root.json", tmp_path / "first.json"))
    fresh, new_online = new_key("p256"), new_key("p256")
    state = rotate(
        folder,
        [keys[0], new_online],
        online=new_online.public,
        add_root=[fresh.public],
        remove_root=[tuf_key_id(keys[1].public)],
    )
    assert state.missing == 1
    assert root_version(folder, first) == 1
    copy = copy_of(folder, "copy.json")
    sign_draft(copy, [fresh])
    half = sign_draft(folder, [], [copy], [new_online])
    assert half.missing == 1, "the old root's second key is missing"
    sign_draft(copy, [keys[1]])
    assert sign_draft(folder, [], [copy], [new_online]).file.name == "root.json"
    publish(folder, [make_flatpack(tmp_path / "work")], [new_online])
    assert root_version(folder, first) == 2


@pytest.mark.parametrize("change", ["threshold", "online"])
def test_a_draft_that_was_changed_on_its_way_is_not_signed(
    folder: Path, keys: list[PrivateKey], online: PrivateKey, change: str
) -> None:
    copy = copy_of(folder, "evil.json")
    content = json.loads(copy.read_bytes())
    roles = content["signed"]["roles"]
    if change == "threshold":
        roles["root"]["threshold"] = 1
    else:
        roles["targets"]["keyids"] = roles["root"]["keyids"]
    copy.write_text(json.dumps(content))
    with pytest.raises(BadFileError, match="changed after the key"):
        sign_draft(copy, [keys[1]])
    with pytest.raises(BadFileError, match="another draft"):
        sign_draft(folder, [], [copy], [online])
    assert not (folder / "root.json").exists()


def test_signatures_in_a_copy_are_checked_and_replace_none(
    folder: Path, keys: list[PrivateKey], online: PrivateKey
) -> None:
    draft, copy = folder / DRAFT, copy_of(folder, "copy.json")
    before, content = draft.read_bytes(), json.loads(copy.read_bytes())
    forged = content["signatures"][0]["sig"][::-1]
    content["signatures"].append({"keyid": tuf_key_id(keys[2].public), "sig": forged})
    copy.write_text(json.dumps(content))
    with pytest.raises(BadFileError, match="changed after the key"):
        sign_draft(folder, [], [copy], [online])
    assert draft.read_bytes() == before
    content["signatures"] = [{"keyid": tuf_key_id(keys[0].public), "sig": forged}]
    copy.write_text(json.dumps(content))
    assert sign_draft(folder, [], [copy], [online]).signed == (tuf_key_id(keys[0].public),)
    assert json.loads(draft.read_bytes()) == json.loads(before)


def test_a_draft_may_be_as_long_as_its_limit(folder: Path) -> None:
    file = folder / DRAFT
    content = file.read_bytes()
    file.write_bytes(content + b" " * (MAX_DRAFT - len(content)))
    assert read_draft(file).signed.version == 1
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(BadFileError, match=r"root\.draft\.json is larger than"):
        read_draft(file)


def test_one_holder_twice_is_one(folder: Path, keys: list[PrivateKey], online: PrivateKey) -> None:
    assert sign_draft(folder, [keys[0]], kept=[online]).missing == 1


def test_a_stranger_cannot_sign(folder: Path) -> None:
    with pytest.raises(UnauthorisedError, match="None of these keys"):
        sign_draft(folder, [new_key("p256")])


def test_a_draft_that_was_overtaken_is_refused(folder: Path, keys: list[PrivateKey], online: PrivateKey) -> None:
    old = copy_of(folder, "old.json")
    sign_draft(folder, [keys[1]], kept=[online])
    with pytest.raises(NotFoundError, match="no draft"):
        sign_draft(folder, [keys[2]])
    shutil.copy(old, folder / DRAFT)
    with pytest.raises(ConflictError, match="version 1"):
        sign_draft(folder, [keys[2]], kept=[online])


def test_a_second_draft_does_not_replace_the_first(folder: Path, keys: list[PrivateKey], online: PrivateKey) -> None:
    with pytest.raises(ConflictError, match="waits for signatures"):
        create(folder, [keys[0].public], online.public, [keys[0], online])


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"signed": {"_type": "targets"}}'])
def test_what_is_no_draft(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(BadFileError):
        sign_draft(tmp_path / "x.json", [new_key("p256")])
