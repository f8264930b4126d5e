from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, VerificationError
from pantry.flatpack.legacy import archive as legacy
from pantry.flatpack.legacy.archive import (
    SEPARATOR,
    LegacyFile,
    compress,
    is_legacy,
    open_legacy,
    sign_legacy,
    unbox_legacy,
)
from pantry.flatpack.signing.keys import HashSize, PrivateKey, new_key
from tests.flatpack.conftest import tree

pytestmark = pytest.mark.usefixtures("ready_rsa_keys")


def signed_as_in_2023(data: bytes, key: PrivateKey, algorithm: hashes.HashAlgorithm | None = None) -> bytes:
    """The recipe of the flatpack.ai README, step by step."""
    assert isinstance(key.raw, rsa.RSAPrivateKey)
    algorithm = algorithm or hashes.SHA256()
    scheme = padding.PSS(mgf=padding.MGF1(algorithm), salt_length=padding.PSS.MAX_LENGTH)
    return data + SEPARATOR + key.raw.sign(data, scheme, algorithm)


def tar_of(*members: tarfile.TarInfo | tuple[str, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for item in members:
            if isinstance(item, tarfile.TarInfo):
                tar.addfile(item, io.BytesIO(bytes(item.size)))
            else:
                info = tarfile.TarInfo(item[0])
                info.size = len(item[1])
                tar.addfile(info, io.BytesIO(item[1]))
    return out.getvalue()


def unbox(path: Path, target: Path, key: PrivateKey) -> list[str]:
    found = open_legacy(path)
    verdict = legacy.verify_legacy(found, [key.public])
    assert verdict is not None
    return unbox_legacy(found, target, verdict)


@pytest.fixture
def hello(tmp_path: Path) -> Path:
    """A folder whose content has the separator in it."""
    folder = tmp_path / "hello_world"
    (folder / "sub").mkdir(parents=True)
    (folder / "train.sh").write_text("#!/bin/sh\n")
    (folder / "train.sh").chmod(0o755)
    (folder / "sub" / "data").write_bytes(os.urandom(2_000_000) + SEPARATOR * 3)
    (folder / ("n" * 150)).write_bytes(SEPARATOR)
    return folder


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda a: a.name)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_a_file_of_the_documented_recipe_verifies_and_unboxes(
    hello: Path, tmp_path: Path, rsa_key: PrivateKey, algorithm: hashes.HashAlgorithm, form: int
) -> None:
    if form == tarfile.USTAR_FORMAT:
        (hello / ("n" * 150)).unlink()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=form) as file:
        file.add(hello, arcname="hello_world")
    path = tmp_path / "signed.fpk"
    path.write_bytes(signed_as_in_2023(zstandard.compress(tar.getvalue()), rsa_key, algorithm))
    unbox(path, tmp_path / "out", rsa_key)
    assert tree(tmp_path / "out" / "hello_world") == tree(hello)


def test_a_single_file_of_the_documented_recipe(tmp_path: Path, rsa_key: PrivateKey) -> None:
    path = tmp_path / "model.fpk"
    for content in (b"weights " * 1000, b"", bytes(2000)):
        path.write_bytes(signed_as_in_2023(zstandard.compress(content, 22), rsa_key))
        target = tmp_path / f"out{len(content)}"
        assert unbox(path, target, rsa_key) == ["model"]
        assert (target / "model").read_bytes() == content


@pytest.mark.parametrize("bits", [256, 384, 512])
def test_what_is_written_here_verifies_under_openssl(
    hello: Path, tmp_path: Path, rsa_key: PrivateKey, bits: HashSize
) -> None:
    compress(hello, tmp_path / "c.fpk")
    sign_legacy(tmp_path / "c.fpk", tmp_path / "s.fpk", rsa_key, bits)
    content = (tmp_path / "s.fpk").read_bytes()
    data, signature = content[: content.rindex(SEPARATOR)], content[content.rindex(SEPARATOR) + len(SEPARATOR) :]
    for name, part in (("data", data), ("sig", signature), ("pub.pem", rsa_key.public.pem)):
        (tmp_path / name).write_bytes(part)
    options = "-sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:max -verify pub.pem -signature sig data"
    done = subprocess.run(["openssl", "dgst", f"-sha{bits}", *options.split()], cwd=tmp_path, check=False)
    assert done.returncode == 0


def test_what_is_written_here_opens_with_the_old_reader(hello: Path, tmp_path: Path) -> None:
    """One frame with its content size, as `zstandard.decompress` needs it, and a tar with the folder's name."""
    compress(hello, tmp_path / "c.fpk")
    content = zstandard.decompress((tmp_path / "c.fpk").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert tree(tmp_path / "out" / "hello_world") == tree(hello)


def test_round_trip(hello: Path, tmp_path: Path, rsa_key: PrivateKey) -> None:
    compress(hello, tmp_path / "c.fpk")
    sign_legacy(tmp_path / "c.fpk", tmp_path / "s.fpk", rsa_key)
    unbox(tmp_path / "s.fpk", tmp_path / "out", rsa_key)
    assert tree(tmp_path / "out" / "hello_world") == tree(hello)


def test_the_last_separator_counts(tmp_path: Path, rsa_key: PrivateKey) -> None:
    data = zstandard.compress(tar_of(("a", b"x"))) + _skippable(SEPARATOR + b"evil")
    path = tmp_path / "s.fpk"
    path.write_bytes(signed_as_in_2023(data, rsa_key))
    assert open_legacy(path).data_size == len(data)
    assert unbox(path, tmp_path / "out", rsa_key) == ["a"]


def _skippable(content: bytes) -> bytes:
    return b"\x50\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content


def test_a_salt_of_another_length_verifies_as_it_did_in_2023(tmp_path: Path, rsa_key: PrivateKey) -> None:
    assert isinstance(rsa_key.raw, rsa.RSAPrivateKey)
    signature = rsa_key.raw.sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    (tmp_path / "s.fpk").write_bytes(b"data" + SEPARATOR + signature)
    assert legacy.verify_legacy(open_legacy(tmp_path / "s.fpk"), [rsa_key.public]) is not None


def test_what_is_legacy_and_what_is_not(tmp_path: Path, signed: Path) -> None:
    assert not is_legacy(signed)
    for content in (b"", b"x" * 100, SEPARATOR, SEPARATOR + b"short", SEPARATOR + b"x" * 5000):
        (tmp_path / "a").write_bytes(content)
        assert not is_legacy(tmp_path / "a")
    with pytest.raises(BadFileError, match="not signed"):
        open_legacy(tmp_path / "a")
    with pytest.raises(NotFoundError):
        open_legacy(tmp_path / "none")


def test_an_ec_key_cannot_sign_the_legacy_format(tmp_path: Path, ec_key: PrivateKey) -> None:
    (tmp_path / "data").write_bytes(b"x")
    with pytest.raises(UsageError, match="needs an RSA key"):
        sign_legacy(tmp_path / "data", tmp_path / "out", ec_key)


class TestHostile:
    def test_a_wrong_key(self, tmp_path: Path, rsa_key: PrivateKey) -> None:
        path = tmp_path / "s.fpk"
        path.write_bytes(signed_as_in_2023(b"data", rsa_key))
        other = new_key("rsa4096")
        assert legacy.verify_legacy(open_legacy(path), [other.public, new_key("p256").public]) is None

    @pytest.mark.parametrize("at", [0, 10, -1, -400])
    def test_a_flipped_bit(self, tmp_path: Path, rsa_key: PrivateKey, at: int) -> None:
        content = bytearray(signed_as_in_2023(zstandard.compress(tar_of(("a", b"x"))), rsa_key))
        content[at] ^= 1
        (tmp_path / "s.fpk").write_bytes(content)
        assert legacy.verify_legacy(open_legacy(tmp_path / "s.fpk"), [rsa_key.public]) is None

    def test_a_file_swapped_between_verifying_and_unboxing(self, tmp_path: Path, rsa_key: PrivateKey) -> None:
        path = tmp_path / "s.fpk"
        path.write_bytes(signed_as_in_2023(zstandard.compress(tar_of(("a", b"good"))), rsa_key))
        verdict = legacy.verify_legacy(open_legacy(path), [rsa_key.public])
        path.write_bytes(signed_as_in_2023(zstandard.compress(tar_of(("a", b"evil"))), new_key("rsa4096")))
        with pytest.raises(VerificationError, match="changed while"):
            unbox_legacy(open_legacy(path), tmp_path / "out", verdict)
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
    def test_truncated_data(self, tmp_path: Path, share: float) -> None:
        data = zstandard.compress(tar_of(("a", os.urandom(5000))))
        self.refused(data[: int(len(data) * share)], tmp_path)

    def refused(self, data: bytes, tmp_path: Path, words: str = ".") -> None:
        path = tmp_path / "s.fpk"
        path.write_bytes(data)
        with pytest.raises(BadFileError, match=words):
            unbox_legacy(LegacyFile(path, len(data), b""), tmp_path / "new" / "out", None)
        assert list((tmp_path / "new").iterdir()) == []

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            (tarfile.SYMTYPE, "a symbolic link 'a' to '../../evil'"),
            (tarfile.LNKTYPE, "a hard link 'a' to '../../evil'"),
            (tarfile.CHRTYPE, "a character device"),
            (tarfile.BLKTYPE, "a block device"),
            (tarfile.FIFOTYPE, "a pipe"),
            (tarfile.GNUTYPE_SPARSE, "of type"),
        ],
    )
    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    def test_links_and_devices(self, tmp_path: Path, kind: bytes, words: str, form: int) -> None:
        info = tarfile.TarInfo("a")
        info.type, info.linkname = kind, "../../evil"
        self.refused(zstandard.compress(tar_of(info, form=form)), tmp_path, words)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("../evil", "leaves the folder"),
            ("a/../../evil", "leaves the folder"),
            ("/evil", "is absolute"),
            ("./../evil", "leaves the folder"),
            (".//evil/../x", "leaves the folder"),
            ("a\\b", "backslash"),
            ("x" * 300, "longer than 255"),
        ],
    )
    @pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
    def test_paths_that_leave(self, tmp_path: Path, name: str, words: str, form: int) -> None:
        self.refused(zstandard.compress(tar_of((name, b"x"), form=form)), tmp_path, words)
        folder = tarfile.TarInfo(name)
        folder.type = tarfile.DIRTYPE
        self.refused(zstandard.compress(tar_of(folder, form=form)), tmp_path, words)

    @pytest.mark.parametrize(
        ("names", "words"),
        [(("a", "a"), "twice"), (("a", "A"), "only by case"), (("a", "a/b"), "both"), (("a/b", "a"), "both")],
    )
    def test_clashes(self, tmp_path: Path, names: tuple[str, str], words: str) -> None:
        self.refused(zstandard.compress(tar_of(*((name, b"x") for name in names))), tmp_path, words)

    def test_a_bomb(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(legacy, "_FREE_GROWTH", 1 << 20)
        self.refused(zstandard.compress(tar_of(("a", bytes(50 << 20)))), tmp_path, "grow beyond")

    def test_a_header_that_claims_to_be_huge(self, tmp_path: Path) -> None:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, 1 << 33
        data = info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)
        self.refused(zstandard.compress(data), tmp_path, "A header of 8589934592 bytes")

    @pytest.mark.parametrize(
        "records",
        [b"99 path=x\n", b"path=x\n", b"-5 path=x\n", b"1 \n", b"9" * 5000, b"14 GNU.sparse=\n", b"9 size=1\n"],
    )
    def test_broken_pax_headers(self, tmp_path: Path, records: bytes) -> None:
        info = tarfile.TarInfo("x")
        info.type, info.size = tarfile.XHDTYPE, len(records)
        header = info.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)
        self.refused(zstandard.compress(header + tar_of(("a", b"x"))), tmp_path)

    def test_a_window_larger_than_readers_allow(self, tmp_path: Path) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=29)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        data = compressor.compress(os.urandom(1000)) + compressor.flush()
        self.refused(data, tmp_path, "do not decompress")

    def test_noise(self, tmp_path: Path) -> None:
        self.refused(os.urandom(4000), tmp_path, "do not decompress")

    def test_a_full_target(self, tmp_path: Path, rsa_key: PrivateKey) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        path = tmp_path / "s.fpk"
        path.write_bytes(signed_as_in_2023(zstandard.compress(tar_of(("a", b"x"))), rsa_key))
        with pytest.raises(ConflictError):
            unbox(path, tmp_path / "out", rsa_key)


def test_a_file_that_grows_while_compressed_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadFileError, match="changed while"):
        legacy.write_legacy_data([b"x" * 10, b"y" * 10], 10, tmp_path / "out")
    assert not (tmp_path / "out").exists()
