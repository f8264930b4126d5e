"""Attacks on the reader. Whatever is done to a signed flatpack, it is refused, and nothing is written."""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from pantry.core.errors import BadFileError, VerificationError
from pantry.core.refs import Digest
from pantry.flatpack import statement
from pantry.flatpack.archive import _frames, _tar
from pantry.flatpack.archive.archive import Reader, pack
from pantry.flatpack.archive.bundle import dump_bundle, load_bundle
from pantry.flatpack.signing.keys import PrivateKey
from pantry.flatpack.signing.signature import sign, verify
from pantry.flatpack.signing.trust import Trust
from pantry.flatpack.statement import Frame
from tests.flatpack.forge import MANIFEST, assemble, entry, forge, frame_of, member, signature_frame


def refused(path: Path, target: Path, error: type[BadFileError] = BadFileError, match: str = ".") -> None:
    """Unboxing fails with that error and leaves nothing, not even beside the target."""
    with pytest.raises(error, match=match), Reader(path) as reader:
        reader.unbox(target)
    assert not target.exists()
    assert not list(target.parent.glob(".tmp-*"))


def test_the_forge_makes_good_flatpacks_too(tmp_path: Path, ec_key: PrivateKey) -> None:
    path = forge(tmp_path / "a.fpk", [("a", b"content")], keys=[ec_key])
    assert verify(path, Trust.only(ec_key.public)).ok
    with Reader(path) as reader:
        reader.unbox(tmp_path / "out")
    assert (tmp_path / "out" / "a").read_bytes() == b"content"


class TestSplices:
    def test_prepended_zstd_frame(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        extra = frame_of(member("evil", b"x"))[0]
        signed.write_bytes(extra + signed.read_bytes())
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", match="do not fill the file")

    def test_prepended_skippable_frame(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        signed.write_bytes(_frames.skippable(0x184D2A50, b"evil") + signed.read_bytes())
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out")

    def test_prepended_frame_with_a_fitting_seek_table(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        extra, frame = frame_of(member("evil", b"x"))
        with Reader(signed) as reader:
            data = signed.read_bytes()[: reader.data_size]
            bundle = signature_frame(reader.bundle_bytes)
            table = [(frame.size, frame.content), *((f.size, f.content) for f in reader.statement.frames)]
        signed.write_bytes(extra + data + bundle + _frames.seek_table([*table, (len(bundle), 0)]))
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", match="different frames")

    def test_appended_frame(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        signed.write_bytes(signed.read_bytes() + frame_of(member("evil", b"x"))[0])
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", match="does not end like a flatpack")

    def test_appended_flatpack(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        evil = forge(tmp_path / "evil.fpk", [("evil", b"x")])
        signed.write_bytes(signed.read_bytes() + evil.read_bytes())
        assert not verify(signed, trust).ok
        refused(signed, tmp_path / "out")

    def test_frame_between_signature_and_seek_table(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        with Reader(signed) as reader:
            data = signed.read_bytes()[: reader.data_size]
            bundle = signature_frame(reader.bundle_bytes)
            table = [(f.size, f.content) for f in reader.statement.frames]
        extra = _frames.skippable(0x184D2A50, b"evil")
        rows = [*table, (len(bundle), 0), (len(extra), 0)]
        signed.write_bytes(data + bundle + extra + _frames.seek_table(rows))
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out")

    def test_signature_frame_of_another_flatpack(
        self, signed: Path, trust: Trust, ec_key: PrivateKey, tmp_path: Path
    ) -> None:
        other = forge(tmp_path / "other.fpk", [("a", b"x")], keys=[ec_key])
        with Reader(signed) as reader, Reader(other) as theirs:
            data = signed.read_bytes()[: reader.data_size]
            bundle = signature_frame(theirs.bundle_bytes)
            table = [(f.size, f.content) for f in reader.statement.frames]
        signed.write_bytes(data + bundle + _frames.seek_table([*table, (len(bundle), 0)]))
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", match="different frames")

    def test_frames_in_another_order(self, source: Path, ec_key: PrivateKey, tmp_path: Path) -> None:
        (source / "a").write_bytes(bytes(6_000_000) + b"tail")
        path = sign(pack(source, tmp_path / "a.fpk").path, [ec_key])
        with Reader(path) as reader:
            frames = reader.statement.frames
            content, start = path.read_bytes(), 0
            pieces = []
            for frame in frames:
                pieces.append(content[start : start + frame.size])
                start += frame.size
        assert len(frames) == 3
        path.write_bytes(b"".join([pieces[0], pieces[2], pieces[1], content[start:]]))
        assert verify(path, Trust.only(ec_key.public)).state == "bad"
        refused(path, tmp_path / "out")

    def test_content_of_another_flatpack_under_this_signature(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        content = bytearray(signed.read_bytes())
        with Reader(signed) as reader:
            first = reader.statement.frames[0]
        forged = bytes(_frames.encode(memoryview(bytes(first.content)), None)[0])
        content[: len(forged)] = forged
        signed.write_bytes(content)
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", VerificationError)


class TestSeekTable:
    def test_missing(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        with Reader(signed) as reader:
            end = reader.data_size + 8 + len(reader.bundle_bytes)
        signed.write_bytes(signed.read_bytes()[:end])
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", match="does not end like a flatpack")

    @pytest.mark.parametrize("count", [0, 1, 2, 4, 0x10000, 0xFFFFFFFF])
    def test_lying_about_its_count(self, signed: Path, trust: Trust, tmp_path: Path, count: int) -> None:
        content = bytearray(signed.read_bytes())
        content[-9:-5] = struct.pack("<I", count)
        signed.write_bytes(content)
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out")

    def test_lying_about_sizes_that_still_add_up(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        with Reader(signed) as reader:
            one, two = ((f.size, f.content) for f in reader.statement.frames)
            size = 8 + len(reader.bundle_bytes)
            content = signed.read_bytes()[: reader.data_size + size]
        moved = [(one[0] + 1, one[1]), (two[0] - 1, two[1]), (size, 0)]
        signed.write_bytes(content + _frames.seek_table(moved))
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", match="different frames")

    def test_lying_about_content_sizes(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        with Reader(signed) as reader:
            rows = [(f.size, f.content + 1) for f in reader.statement.frames]
            size = 8 + len(reader.bundle_bytes)
            content = signed.read_bytes()[: reader.data_size + size]
        signed.write_bytes(content + _frames.seek_table([*rows, (size, 0)]))
        assert verify(signed, trust).state == "bad"
        refused(signed, tmp_path / "out", match="different frames")

    def test_claiming_a_huge_signature_frame_reads_little(self, tmp_path: Path) -> None:
        path = tmp_path / "a.fpk"
        with path.open("wb") as file:
            file.truncate(3 << 30)
            file.seek(0, io.SEEK_END)
            file.write(_frames.seek_table([(0, 0), (3 << 30, 0)]))
        tracemalloc.start()
        refused(path, tmp_path / "out", match="missing or too large")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()

    def test_claiming_a_huge_seek_table_reads_little(self, tmp_path: Path) -> None:
        """The hole in a sparse file costs nothing to send, and each entry read from it would take 100 bytes."""
        path, count = tmp_path / "a.fpk", 1 << 20
        table = _frames.seek_table([(0, 0)] * count)
        with path.open("wb") as file:
            file.truncate(100)
            file.seek(0, io.SEEK_END)
            file.write(table)
        del table
        tracemalloc.start()
        refused(path, tmp_path / "out", match="seek table")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


def test_a_frame_that_is_far_larger_than_its_content(tmp_path: Path) -> None:
    content = member("flatpack.toml", MANIFEST)
    head = struct.pack("<IBI", zstandard.MAGIC_NUMBER, 0xA0, len(content))
    data = head + bytes(3 * 10_000) + (1 | len(content) << 3).to_bytes(3, "little") + content
    assert zstandard.ZstdDecompressor().decompress(data) == content
    frame = Frame(len(data), len(content), Digest(hashlib.sha256(data).hexdigest()))
    path = assemble(tmp_path / "a.fpk", [(data, frame), frame_of(_tar.END)], [entry("flatpack.toml", MANIFEST)])
    refused(path, tmp_path / "out", match="expected a number")


def test_truncation_at_every_byte(signed: Path, trust: Trust, tmp_path: Path) -> None:
    content = signed.read_bytes()
    path = tmp_path / "cut.fpk"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        assert verify(path, trust).state == "bad", size
    refused(path, tmp_path / "out", match="does not end like a flatpack")


def test_truncation_at_every_member_boundary_of_the_tar(tmp_path: Path, ec_key: PrivateKey) -> None:
    files = [("a", b"x" * 600), ("b", b""), ("c/d", b"y" * 100)]
    rest = [member(*file) for file in files] + [_tar.END]
    entries = [entry("flatpack.toml", MANIFEST), *(entry(*file) for file in files)]
    for kept in range(len(rest)):
        frames = [frame_of(member("flatpack.toml", MANIFEST)), frame_of(b"".join(rest[:kept]))]
        path = assemble(tmp_path / "cut.fpk", frames, entries, keys=[ec_key])
        refused(path, tmp_path / "out", match="the files listed need")


def flips(content: bytes) -> Iterator[tuple[int, bytes]]:
    """The content with one bit flipped, for every byte; all eight bits in turn."""
    for at in range(len(content)):
        yield at, content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]


def test_a_flipped_bit_in_any_byte(packed: Path, ec_key: PrivateKey, tmp_path: Path) -> None:
    """Data, manifest, signature, seek table: there is no byte of the file that may change."""
    content = sign(packed, [ec_key]).read_bytes()
    path = tmp_path / "flipped.fpk"
    for at, flipped in flips(content):
        path.write_bytes(flipped)
        assert verify(path, Trust.only(ec_key.public)).state == "bad", at


def test_a_flipped_bit_beside_a_second_signature(
    signed: Path, trust: Trust, rsa_key: PrivateKey, tmp_path: Path
) -> None:
    """Only whose the second signature claims to be may change: then it is an unknown key's, which does not count."""
    content = signed.read_bytes()
    keyid = b":" + rsa_key.public.id.encode()
    free = range(content.rindex(keyid), content.rindex(keyid) + len(keyid))
    path = tmp_path / "flipped.fpk"
    for at, flipped in flips(content):
        if at not in free:
            path.write_bytes(flipped)
            assert verify(path, trust).state == "bad", at


def test_a_flipped_bit_in_a_stored_frame_stops_unboxing(source: Path, ec_key: PrivateKey, tmp_path: Path) -> None:
    path = sign(pack(source, tmp_path / "a.fpk", level=None).path, [ec_key])
    content = bytearray(path.read_bytes())
    content[3000] ^= 4
    path.write_bytes(content)
    refused(path, tmp_path / "out", VerificationError, match=r"Frame 1 .* was changed")


BAD_PATHS = {
    "../evil": "leaves the folder",
    "a/../../evil": "leaves the folder",
    "/etc/evil": "is absolute",
    "C:/evil": "is absolute",
    "a\\..\\evil": "backslash",
    "a//b": "empty part",
    "./a": "'.'",
    "a/": "empty part",
    "": "is empty",
    "a\x00b": "U+0000",
    "a\nb": "U+000A",
    "a\u202egpj.exe": "U+202E",
    "x" * 256: "longer than 255",
    "/".join(["d" * 200] * 25): "longer than 4096",
    "model.sig": "kept for the signature",
    "MODEL.SIG": "kept for the signature",
    "model.sig/x": "kept for the signature",
}


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: repr(path[:20]))
def test_a_path_that_leaves_or_deceives(path: str, tmp_path: Path, ec_key: PrivateKey) -> None:
    """Signed by a trusted key all the same: a stolen key must not write outside the folder."""

    def rename(table: dict[str, Any]) -> None:
        table["predicate"]["resources"][1]["name"] = path

    forged = forge(tmp_path / "a.fpk", [("a", b"x")], keys=[ec_key], edit=rename)
    verdict = verify(forged, Trust.only(ec_key.public))
    assert verdict.state == "bad"
    assert BAD_PATHS[path] in verdict.sentence
    refused(forged, tmp_path / "out")


@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ("a", "a", "comes twice"),
        ("Readme", "readme", "only by case"),
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("stra\u00dfe", "STRASSE", "only by case"),
        ("\ufb01le", "file", "Unicode form"),
        ("Dir/a", "dir/b", "only by case"),
        ("a", "a/b", "both a file and a folder"),
        ("A", "a/b", "both a file and a folder"),
        ("flatpack.toml", "FLATPACK.TOML", "only by case"),
    ],
)
def test_names_that_clash(first: str, second: str, match: str, tmp_path: Path) -> None:
    refused(
        forge(tmp_path / "a.fpk", [(first, b"1"), (second, b"2")][first == "flatpack.toml" :]),
        tmp_path / "out",
        match=match,
    )


def link(kind: bytes, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo("a")
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a symbolic link 'a' to '../../etc/passwd'"),
        (tarfile.LNKTYPE, "a hard link 'a' to '../../etc/passwd'"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (tarfile.DIRTYPE, "a folder"),
        (tarfile.GNUTYPE_SPARSE, "of type"),
    ],
)
def test_a_member_that_is_no_plain_file(kind: bytes, words: str, tmp_path: Path, ec_key: PrivateKey) -> None:
    block = link(kind, "../../etc/passwd").tobuf(tarfile.PAX_FORMAT)
    forged = forge(tmp_path / "a.fpk", [("a", b"")], tail=block + _tar.END, keys=[ec_key])
    refused(forged, tmp_path / "out", match=words)


def test_a_member_of_another_name_than_listed(tmp_path: Path) -> None:
    forged = forge(tmp_path / "a.fpk", [("a", b"x")], tail=member("b", b"x") + _tar.END)
    refused(forged, tmp_path / "out", match="the file 'a' was expected; there is the file 'b'")


def test_a_member_with_another_mode_or_owner(tmp_path: Path) -> None:
    forged = forge(tmp_path / "a.fpk", [("a", b"x")], tail=member("a", b"x", executable=True) + _tar.END)
    refused(forged, tmp_path / "out", match="was expected")


def test_a_member_larger_than_listed(tmp_path: Path) -> None:
    tail = member("a", b"x" * 513)[: 512 * 2] + _tar.END
    forged = forge(tmp_path / "a.fpk", [("a", b"x" * 512)], tail=tail)
    refused(forged, tmp_path / "out", match="of 513 bytes")


def test_a_listed_size_beyond_the_data(tmp_path: Path) -> None:
    def grow(table: dict[str, Any]) -> None:
        table["predicate"]["resources"][1]["size"] = 1 << 40

    refused(forge(tmp_path / "a.fpk", [("a", b"x")], edit=grow), tmp_path / "out", match="the files listed need")


def test_data_that_do_not_have_the_listed_digest(tmp_path: Path) -> None:
    forged = forge(tmp_path / "a.fpk", [("a", b"x")], tail=member("a", b"y") + _tar.END)
    refused(forged, tmp_path / "out", VerificationError, match="'a' does not have its digest")


def test_something_hidden_in_the_padding(tmp_path: Path) -> None:
    tail = member("a", b"x")[:-1] + b"!" + _tar.END
    refused(forge(tmp_path / "a.fpk", [("a", b"x")], tail=tail), tmp_path / "out", match="padding after 'a'")


def test_something_hidden_after_the_end_mark(tmp_path: Path) -> None:
    refused(forge(tmp_path / "a.fpk", tail=bytes(1023) + b"!"), tmp_path / "out", match="end mark")


def test_files_out_of_order(tmp_path: Path) -> None:
    refused(forge(tmp_path / "a.fpk", [("b", b""), ("a", b"")]), tmp_path / "out", match="not in order")


def test_a_flatpack_without_manifest_first(tmp_path: Path) -> None:
    frames = [frame_of(member("a", b"x")), frame_of(_tar.END)]
    refused(assemble(tmp_path / "a.fpk", frames, [entry("a", b"x")]), tmp_path / "out", match="is not the first")


class TestBombs:
    @pytest.mark.parametrize("piece", [b"[],", b"{},", b'"ab",', b"0.5,"])
    def test_json_that_needs_far_more_memory_than_its_length(self, piece: bytes) -> None:
        content = b"[" + piece * 2_000_000 + b"0]"
        tracemalloc.start()
        for read in (statement.load_statement, load_bundle):
            with pytest.raises(BadFileError, match="more than any real one"):
                read(content)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
        tracemalloc.stop()

    def test_a_hundred_thousand_empty_members_are_read_in_seconds(self, tmp_path: Path) -> None:
        path = forge(tmp_path / "a.fpk", sorted((f"{number}", b"") for number in range(100_000)))
        start = time.process_time()
        with Reader(path) as reader:
            reader.check_contents()
        assert time.process_time() - start < 20

    def test_more_members_than_any_flatpack_has(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(statement, "MAX_FILES", 10)
        path = forge(tmp_path / "a.fpk", sorted((f"{number}", b"") for number in range(20)))
        refused(path, tmp_path / "out", match="lists 21 files; at most 10")

    def test_a_frame_that_declares_more_than_the_statement(self, tmp_path: Path) -> None:
        data, frame = frame_of(member("a", bytes(1 << 20)) + _tar.END)
        lying = (data, Frame(frame.size, 2048, frame.digest))
        entries = [entry("flatpack.toml", MANIFEST), entry("a", bytes(512))]
        path = assemble(tmp_path / "a.fpk", [frame_of(member("flatpack.toml", MANIFEST)), lying], entries)
        refused(path, tmp_path / "out", match="declares 1050112 bytes of content; the statement says 2048")

    def test_a_frame_that_hides_its_size(self, tmp_path: Path) -> None:
        content = member("a", bytes(1 << 26)) + _tar.END
        data = zstandard.ZstdCompressor(write_content_size=False).compress(content)
        lying = (data, Frame(len(data), 2048, Digest(hashlib.sha256(data).hexdigest())))
        entries = [entry("flatpack.toml", MANIFEST), entry("a", bytes(512))]
        path = assemble(tmp_path / "a.fpk", [frame_of(member("flatpack.toml", MANIFEST)), lying], entries)
        refused(path, tmp_path / "out")

    def test_a_frame_that_holds_more_than_it_declares(self, tmp_path: Path) -> None:
        content = member("a", bytes(512)) + _tar.END
        data = bytearray(b"".join(_frames.encode(memoryview(content), None)))
        data[5:9] = struct.pack("<I", 512)
        lying = (bytes(data), Frame(len(data), 512, Digest(hashlib.sha256(data).hexdigest())))
        entries = [entry("flatpack.toml", MANIFEST)]
        path = assemble(tmp_path / "a.fpk", [frame_of(member("flatpack.toml", MANIFEST)), lying], entries)
        refused(path, tmp_path / "out")

    def test_two_zstd_frames_in_one(self, tmp_path: Path) -> None:
        content = member("a", bytes(512)) + _tar.END
        one, two = zstandard.compress(content[:1024]), zstandard.compress(content[1024:])
        both = (one + two, Frame(len(one + two), len(content), Digest(hashlib.sha256(one + two).hexdigest())))
        entries = [entry("flatpack.toml", MANIFEST), entry("a", bytes(512))]
        path = assemble(tmp_path / "a.fpk", [frame_of(member("flatpack.toml", MANIFEST)), both], entries)
        refused(path, tmp_path / "out")

    def test_a_frame_larger_than_any_may_be(self, tmp_path: Path) -> None:
        def grow(table: dict[str, Any]) -> None:
            table["predicate"]["archive"]["frames"][1]["content"] = (64 << 20) + 1

        refused(forge(tmp_path / "a.fpk", edit=grow), tmp_path / "out", match="expected a number")

    def test_a_manifest_too_large_to_be_one(self, tmp_path: Path) -> None:
        manifest = MANIFEST + b"#" * (5 << 20)
        frames = [frame_of(member("flatpack.toml", manifest)), frame_of(_tar.END)]
        path = assemble(tmp_path / "a.fpk", frames, [entry("flatpack.toml", manifest)])
        with Reader(path) as reader, pytest.raises(BadFileError, match="at most"):
            _ = reader.manifest


@pytest.mark.parametrize("folders", [300, 1900, 2040])
def test_a_path_of_very_many_folders(folders: int, tmp_path: Path, ec_key: PrivateKey) -> None:
    path = forge(tmp_path / "a.fpk", [("a/" * folders + "a", b"x")], keys=[ec_key])
    assert verify(path, Trust.only(ec_key.public)).state == "bad"
    refused(path, tmp_path / "out", match="more than 255 parts")


def test_a_folder_on_disk_that_goes_down_very_far(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    for _ in range(300):
        os.mkdir("a")  # noqa: PTH102
        os.chdir("a")
    (Path() / "b").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadFileError, match="more than 255 parts"):
        pack(source, tmp_path / "a.fpk")


def set_key(*keys: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that puts a value somewhere into the statement."""

    def edit(table: Any) -> None:
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        set_key("_type", value="https://in-toto.io/Statement/v0.1"),
        set_key("predicateType", value="https://slsa.dev/provenance/v1"),
        set_key("predicate", "serialization", "hash_type", value="md5"),
        set_key("predicate", "serialization", "method", value="shards"),
        set_key("predicate", "resources", 1, "algorithm", value="md5"),
        set_key("predicate", "resources", 1, "size", value=-1),
        set_key("predicate", "resources", 1, "size", value=True),
        set_key("predicate", "resources", 1, "size", value=1.0),
        set_key("predicate", "resources", 1, "size", value=None),
        set_key("predicate", "resources", 1, "name", value=7),
        set_key("predicate", "archive", value={}),
        set_key("predicate", "archive", value=None),
        set_key("predicate", "archive", "version", value=3),
        set_key("predicate", "archive", "frames", value=[]),
        set_key("predicate", "archive", "frames", 0, "digest", value="zz"),
        set_key("subject", 0, "name", value="bob/tiny"),
        set_key("subject", 0, "name", value=["x"]),
    ],
)
def test_a_statement_of_another_shape(
    edit: Callable[[dict[str, Any]], None], tmp_path: Path, ec_key: PrivateKey
) -> None:
    path = forge(tmp_path / "a.fpk", [("a", b"x")], keys=[ec_key], edit=edit)
    assert verify(path, Trust.only(ec_key.public)).state == "bad"


def test_a_root_digest_that_does_not_fit(tmp_path: Path, signed: Path, ec_key: PrivateKey) -> None:
    with Reader(signed) as reader:
        table = json.loads(reader.bundle.payload)
    table["subject"][0]["digest"]["sha256"] = "0" * 64
    from pantry.flatpack.statement import load_statement

    with pytest.raises(BadFileError, match="subject digest"):
        load_statement(json.dumps(table).encode())


@pytest.mark.parametrize("content", [b"", b"x", b"\0" * 17, b"{}", b"[" * 100_000, b"PK\x03\x04" * 100])
def test_what_is_no_flatpack_at_all(content: bytes, trust: Trust, tmp_path: Path) -> None:
    path = tmp_path / "a.fpk"
    path.write_bytes(content)
    assert verify(path, trust).state == "bad"
    path.write_bytes(b"x" * 10 + signature_frame(content) + _frames.seek_table([(10, 5), (8 + len(content), 0)]))
    assert verify(path, trust).state == "bad"


def test_a_bundle_written_in_another_way(signed: Path, trust: Trust, tmp_path: Path) -> None:
    """White space or unknown keys in the bundle are not a place to hide bytes."""
    with Reader(signed) as reader:
        data = signed.read_bytes()[: reader.data_size]
        rows = [(f.size, f.content) for f in reader.statement.frames]
        bundle = signature_frame(dump_bundle(reader.bundle) + b" ")
    signed.write_bytes(data + bundle + _frames.seek_table([*rows, (len(bundle), 0)]))
    assert verify(signed, trust).state == "bad"
    refused(signed, tmp_path / "out", match="one form")
