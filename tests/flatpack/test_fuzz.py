"""Fuzzing of everything that reads foreign bytes: no crash, no hang, no file outside the target, bounded memory."""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, PantryError
from pantry.flatpack.archive import _frames
from pantry.flatpack.archive.archive import Reader, pack
from pantry.flatpack.archive.bundle import load_bundle
from pantry.flatpack.legacy.archive import LegacyFile, open_legacy, unbox_legacy, verify_legacy
from pantry.flatpack.manifest import parse_manifest
from pantry.flatpack.signing.keys import PrivateKey, load_private_key, load_public_keys, new_key
from pantry.flatpack.signing.signature import sign, verify
from pantry.flatpack.signing.trust import Trust
from pantry.flatpack.statement import load_statement
from tests.flatpack.conftest import MANIFEST, tree
from tests.flatpack.forge import forge, member
from tests.flatpack.legacy.test_archive import tar_of

FUZZ = settings(max_examples=200)

Edits = list[tuple[str, float, bytes]]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "repeat", "cut"]),
        st.floats(0, 1, exclude_max=True),
        st.binary(min_size=1, max_size=40),
    ),
    min_size=1,
    max_size=5,
)


def edited(content: bytes, edits: Edits) -> bytes:
    """The content after a few edits at places given as shares of its length."""
    for kind, place, piece in edits:
        at = int(place * len(content))
        rest = {
            "replace": piece + content[at + len(piece) :],
            "insert": piece + content[at:],
            "delete": content[at + len(piece) :],
            "repeat": content[max(0, at - 64) :],
            "cut": b"",
        }
        content = content[:at] + rest[kind]
    return content


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return new_key("p256")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, key: PrivateKey) -> Path:
    """A small signed flatpack."""
    base = tmp_path_factory.mktemp("good")
    (base / "src" / "sub").mkdir(parents=True)
    (base / "src" / "flatpack.toml").write_text(MANIFEST)
    (base / "src" / "sub" / "a").write_bytes(b"content " * 100)
    return sign(pack(base / "src", base / "a.fpk").path, [key])


@contextlib.contextmanager
def sandbox() -> Iterator[Path]:
    """A fresh folder; after its use nothing may have been written but below `out`."""
    folder = Path(tempfile.mkdtemp(prefix="pantry-fuzz-"))
    try:
        (folder / "in").mkdir()
        yield folder
        assert {item.name for item in folder.iterdir()} <= {"in", "out"}
        assert {item.name for item in (folder / "in").iterdir()} == {"a.fpk"}
        assert not any(item.is_symlink() for item in folder.rglob("*"))
    finally:
        shutil.rmtree(folder)


@FUZZ
@given(edits=EDITS)
def test_an_edited_flatpack_is_refused_or_the_same(edits: Edits, good: Path, key: PrivateKey) -> None:
    content = good.read_bytes()
    changed = edited(content, edits)
    with sandbox() as folder:
        path = folder / "in" / "a.fpk"
        path.write_bytes(changed)
        assert verify(path, Trust.only(key.public)).ok == (changed == content)
        with contextlib.suppress(PantryError), Reader(path) as reader:
            reader.unbox(folder / "out")


@FUZZ
@given(edits=EDITS)
def test_an_edited_tar_stream_under_an_honest_list_is_refused_or_the_same(edits: Edits) -> None:
    tail = member("a", b"content " * 100) + member("b/c", b"") + bytes(1024)
    changed = edited(tail, edits)
    changed = changed[: len(tail)].ljust(len(tail), b"\0")
    with sandbox() as folder:
        path = forge(folder / "in" / "a.fpk", [("a", b"content " * 100), ("b/c", b"")], tail=changed)
        if changed == tail:
            return
        with pytest.raises(BadFileError), Reader(path) as reader:
            reader.unbox(folder / "out")
        assert not (folder / "out").exists()


@FUZZ
@given(files=st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=600), max_size=6))
def test_any_list_of_files_is_refused_or_unboxed_as_it_is(files: dict[str, bytes]) -> None:
    files.pop("flatpack.toml", None)
    with sandbox() as folder, contextlib.suppress(BadFileError, UnicodeEncodeError):
        ordered = sorted(files.items(), key=lambda item: item[0].split("/"))
        path = forge(folder / "in" / "a.fpk", ordered)
        with Reader(path) as reader:
            reader.unbox(folder / "out")
        found = {name: content for name, (content, _) in tree(folder / "out").items()}
        found.pop("flatpack.toml")
        assert found == files


@FUZZ
@given(content=st.binary(max_size=2000), size=st.integers(0, 1 << 20))
def test_any_frame_decodes_to_its_size_or_is_refused(content: bytes, size: int) -> None:
    for frame in (content, zstandard.compress(content), zstandard.compress(content)[:-1] + b"x"):
        try:
            assert len(_frames.decode(frame, size)) == size
        except BadFileError:
            continue


@FUZZ
@given(content=st.binary(max_size=3000), level=st.sampled_from([None, 1, 3]))
def test_any_content_survives_its_frame(content: bytes, level: int | None) -> None:
    if content:
        frame = b"".join(_frames.encode(memoryview(content), level))
        assert _frames.decode(frame, len(content)) == content


@FUZZ
@given(edits=EDITS)
def test_an_edited_legacy_tar_is_refused_or_unboxed_inside(edits: Edits) -> None:
    tar = tar_of(("a", b"content"), ("sub/" + "n" * 120, b"more" * 300), ("ü", b""))
    data = zstandard.compress(edited(tar, edits))
    with sandbox() as folder:
        path = folder / "in" / "a.fpk"
        path.write_bytes(data)
        with contextlib.suppress(PantryError):
            unbox_legacy(LegacyFile(path, len(data), b""), folder / "out", None)


@FUZZ
@given(content=st.binary(max_size=3000))
def test_any_bytes_as_legacy_data(content: bytes, rsa_key: PrivateKey) -> None:
    with sandbox() as folder:
        path = folder / "in" / "a.fpk"
        path.write_bytes(content)
        with contextlib.suppress(PantryError):
            unbox_legacy(LegacyFile(path, len(content), b""), folder / "out", None)
        with contextlib.suppress(PantryError):
            assert verify_legacy(open_legacy(path), [rsa_key.public]) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=20,
)
PARTS = ("_type", "subject", "predicateType", "predicate", "mediaType", "dsseEnvelope", "verificationMaterial")


@FUZZ
@given(table=st.dictionaries(st.sampled_from(PARTS), JSON), content=st.binary(max_size=200))
def test_any_json_as_statement_or_bundle(table: dict[str, object], content: bytes) -> None:
    for raw in (json.dumps(table).encode(), content):
        for read in (load_statement, load_bundle):
            with contextlib.suppress(BadFileError):
                read(raw)


@FUZZ
@given(edits=EDITS)
def test_an_edited_statement_or_bundle(edits: Edits, good: Path) -> None:
    with Reader(good) as reader:
        payload, bundle = reader.bundle.payload, reader.bundle_bytes
    with contextlib.suppress(BadFileError):
        load_statement(edited(payload, edits))
    with contextlib.suppress(BadFileError):
        load_bundle(edited(bundle, edits))


@FUZZ
@given(edits=EDITS, content=st.binary(max_size=200))
def test_an_edited_manifest(edits: Edits, content: bytes) -> None:
    for raw in (edited(MANIFEST.encode(), edits), content):
        with contextlib.suppress(BadFileError):
            parse_manifest(raw)


@FUZZ
@given(edits=EDITS)
def test_an_edited_key_file(edits: Edits, key: PrivateKey) -> None:
    for raw in (key.pem(None), key.public.pem):
        with contextlib.suppress(PantryError):
            load_private_key(edited(raw, edits), b"passphrase", "k.pem")
        with contextlib.suppress(PantryError):
            load_public_keys(edited(raw, edits), "k.pem")
