"""point-alpaca's .enc files: the same bytes as the reference, both ways, and no file left when something is wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, VerificationError
from pantry.workshop.delta import xor_files as enc
from pantry.workshop.delta.checksums import ChecksumList


def reference(plain: bytes, key: bytes, chunk: int) -> bytes:
    """The format in the plainest words: chunks of data and key, a short key chunk repeated within its data chunk."""
    coded, at = hashlib.sha256(plain).digest(), 0
    for start in range(0, len(plain), chunk):
        data, part = plain[start : start + chunk], key[at : at + chunk]
        if not part:
            at, part = 0, key[:chunk]
        at += chunk
        repeated = (part * (len(data) // len(part) + 1))[: len(data)]
        coded += bytes(a ^ b for a, b in zip(data, repeated, strict=True))
    return coded


def write(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)
    return folder / name


@settings(max_examples=120)
@given(st.binary(max_size=200), st.binary(min_size=1, max_size=100), st.integers(1, 40))
def test_any_file_and_key_give_the_reference_bytes_and_come_back(
    tmp_path_factory: pytest.TempPathFactory, plain: bytes, key: bytes, chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("enc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enc, "CHUNK", chunk)
        key_file = write(folder, "key", key)
        written = enc.encrypt(write(folder / "in", "f.bin", plain), key_file, folder / "enc")
        assert written.path.name == f"f.bin.{hashlib.sha256(plain).hexdigest()}.enc"
        assert written.path.read_bytes() == reference(plain, key, chunk)
        back = enc.decrypt(written.path, key_file, folder / "out")
    assert back.path == folder / "out" / "f.bin"
    assert back.path.read_bytes() == plain
    assert (back.sha256, back.md5) == (hashlib.sha256(plain).hexdigest(), hashlib.md5(plain).hexdigest())


@pytest.mark.parametrize("key_size", [1, 13, enc.CHUNK - 1, enc.CHUNK, enc.CHUNK + 3])
def test_keys_around_the_real_chunk_size_match_the_reference(tmp_path: Path, key_size: int) -> None:
    dice = np.random.default_rng(key_size)
    plain, key = dice.bytes(2 * enc.CHUNK + 1_000_001), dice.bytes(key_size)
    key_file = write(tmp_path, "key", key)
    written = enc.encrypt(write(tmp_path / "in", "f", plain), key_file, tmp_path / "enc")
    body = written.path.read_bytes()[32:]
    for at in [0, enc.CHUNK - 1, enc.CHUNK, enc.CHUNK + 5, 2 * enc.CHUNK - 1, 2 * enc.CHUNK, len(plain) - 1]:
        number, inside = divmod(at, enc.CHUNK)
        key_chunks = [key[start : start + enc.CHUNK] for start in range(0, len(key), enc.CHUNK)]
        part = key_chunks[number % len(key_chunks)]
        assert body[at] == plain[at] ^ part[inside % len(part)]
    assert enc.decrypt(written.path, key_file, tmp_path / "out").path.read_bytes() == plain


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return write(tmp_path, "key", b"the original weights")


@pytest.fixture
def coded(tmp_path: Path, key: Path) -> Path:
    return enc.encrypt(write(tmp_path / "in", "weights.bin", bytes(range(256)) * 9), key, tmp_path / "enc").path


def nothing_written(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


def test_a_wrong_key_leaves_no_file(tmp_path: Path, coded: Path) -> None:
    other = write(tmp_path, "other", b"something else")
    with pytest.raises(VerificationError, match="Nothing was kept") as raised:
        enc.decrypt(coded, other, tmp_path / "out")
    assert "other" in (raised.value.hint or "")
    assert nothing_written(tmp_path / "out")


def test_an_empty_key_is_refused(tmp_path: Path, coded: Path) -> None:
    empty = write(tmp_path, "empty", b"")
    with pytest.raises(UsageError, match="is empty"):
        enc.decrypt(coded, empty, tmp_path / "out")
    with pytest.raises(UsageError, match="is empty"):
        enc.encrypt(coded, empty, tmp_path / "out")
    assert nothing_written(tmp_path / "out")


@pytest.mark.parametrize("change", ["cut", "flip", "empty"])
def test_a_corrupt_header_leaves_no_file(tmp_path: Path, coded: Path, key: Path, change: str) -> None:
    content = coded.read_bytes()
    damaged = {"cut": content[:31], "flip": bytes([content[0] ^ 1]) + content[1:], "empty": b""}[change]
    coded.write_bytes(damaged)
    with pytest.raises(BadFileError, match="header"):
        enc.decrypt(coded, key, tmp_path / "out")
    assert nothing_written(tmp_path / "out")


@pytest.mark.parametrize("change", ["cut", "longer", "flip"])
def test_a_damaged_body_leaves_no_file(tmp_path: Path, coded: Path, key: Path, change: str) -> None:
    content = coded.read_bytes()
    flipped = content[:-1] + bytes([content[-1] ^ 1])
    coded.write_bytes({"cut": content[:-1], "longer": content + b"x", "flip": flipped}[change])
    with pytest.raises(VerificationError):
        enc.decrypt(coded, key, tmp_path / "out")
    assert nothing_written(tmp_path / "out")


@pytest.mark.parametrize(
    "name", ["weights.enc", "weights.bin", f"..{'.' + 'a' * 64}.enc", f".{'a' * 64}.enc", "x.abc.enc"]
)
def test_a_name_of_another_form_is_refused(tmp_path: Path, coded: Path, key: Path, name: str) -> None:
    renamed = coded.rename(coded.parent / name)
    with pytest.raises(BadFileError, match="not named like"):
        enc.decrypt(renamed, key, tmp_path / "out")


def test_other_content_at_the_final_name_is_kept(tmp_path: Path, coded: Path, key: Path) -> None:
    mine = write(tmp_path / "out", "weights.bin", b"mine")
    with pytest.raises(ConflictError, match="exists already"):
        enc.decrypt(coded, key, tmp_path / "out")
    assert mine.read_bytes() == b"mine"


def test_missing_files_are_named(tmp_path: Path, coded: Path) -> None:
    with pytest.raises(NotFoundError, match="nokey"):
        enc.decrypt(coded, tmp_path / "nokey", tmp_path / "out")


def checksum_list(tmp_path: Path, text: str) -> ChecksumList:
    return ChecksumList.read(write(tmp_path, "list.txt", text.encode()))


def test_lists_of_sums_and_of_addresses_are_read(tmp_path: Path) -> None:
    found = checksum_list(
        tmp_path,
        f"$ md5sum encrypted/*\n{'0' * 32}  encrypted/a.enc\n# more\n\n{'A' * 64} *b.enc\n"
        f"https://example.org/files/c%20d.enc?x=1\n{'1' * 32}  a.enc\n",
    )
    assert found.names == {"a.enc": {"0" * 32, "1" * 32}, "b.enc": {"a" * 64}, "c d.enc": set()}
    assert found.missing({"a.enc"}) == ["b.enc", "c d.enc"]


@pytest.mark.parametrize("line", ["two words", "folder/", f"{'0' * 31}  a.enc"])
def test_a_line_of_another_form_is_named_by_its_number(tmp_path: Path, line: str) -> None:
    with pytest.raises(BadFileError, match="line 2"):
        checksum_list(tmp_path, f"# list\n{line}\n")


def test_a_list_that_is_no_text_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="not UTF-8"):
        ChecksumList.read(write(tmp_path, "list", b"\xff\xfe\x00"))
    with pytest.raises(NotFoundError):
        ChecksumList.read(tmp_path / "none")


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_sum_that_differs_from_the_list_is_an_error(tmp_path: Path, coded: Path, kind: str) -> None:
    size = {"md5": 32, "sha256": 64}[kind]
    right = hashlib.new(kind, coded.read_bytes()).hexdigest()
    checksum_list(tmp_path, f"{right}  {coded.name}\n").check(enc.checksums_of(coded))
    with pytest.raises(VerificationError, match=f"has {kind}"):
        checksum_list(tmp_path, f"{'0' * size}  {coded.name}\n").check(enc.checksums_of(coded))


def test_a_file_that_ends_in_its_header_says_so(tmp_path: Path, coded: Path, key: Path) -> None:
    short = write(tmp_path / "short", coded.name, coded.read_bytes()[:20])
    with pytest.raises(BadFileError, match="cut short: it has 20 bytes, its header alone 32"):
        enc.decrypt(short, key, tmp_path / "out")
    assert nothing_written(tmp_path / "out")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, coded: Path, key: Path) -> None:
    def cut(done: int, total: int) -> None:
        with coded.open("r+b") as file:
            file.truncate(enc.HEADER + done)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enc, "CHUNK", 100)
        with pytest.raises(BadFileError, match="changed while it was read"):
            enc.decrypt(coded, key, tmp_path / "out", progress=cut)
    assert nothing_written(tmp_path / "out")


CUT = """
import os, sys
from pathlib import Path
import numpy
from pantry.core.errors import BadFileError
from pantry.workshop.delta import xor_files as enc

mix = numpy.bitwise_xor

def cut(*arguments, **more):
    os.truncate(sys.argv[1], enc.HEADER)
    return mix(*arguments, **more)

numpy.bitwise_xor = cut
try:
    enc.decrypt(*map(Path, sys.argv[1:]))
except BadFileError as error:
    print(error.message)
"""


def test_a_file_cut_short_in_the_middle_of_a_step_does_not_end_the_process(tmp_path: Path, key: Path) -> None:
    """Bytes mapped into memory would be gone then, and the system would kill whoever looks at them."""
    (tmp_path / "plain").write_bytes(bytes(1_000_000))
    coded = enc.encrypt(tmp_path / "plain", key, tmp_path).path
    run = subprocess.run(
        [sys.executable, "-c", CUT, str(coded), str(key), str(tmp_path / "out")], capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "changed while it was read" in run.stdout
    assert nothing_written(tmp_path / "out")


def test_an_enc_file_that_is_there_and_right_is_left(tmp_path: Path, key: Path) -> None:
    """So that a folder of which some are done can be gone on with."""
    plain = write(tmp_path, "plain", b"abc" * 1000)
    made = enc.encrypt(plain, key, tmp_path / "out")
    before = made.path.stat().st_mtime_ns
    assert enc.encrypt(plain, key, tmp_path / "out") == made
    assert made.path.stat().st_mtime_ns == before
    made.path.write_bytes(made.path.read_bytes()[:-1] + b"x")
    with pytest.raises(ConflictError, match="with other content"):
        enc.encrypt(plain, key, tmp_path / "out")


def test_a_folder_is_no_key(tmp_path: Path, coded: Path) -> None:
    with pytest.raises(UsageError, match="not a plain file"):
        enc.decrypt(coded, tmp_path, tmp_path / "out")
