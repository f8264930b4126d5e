from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pantry.core.errors import NotFoundError, UsageError, VerificationError
from pantry.flatpack.archive.archive import Reader, pack
from pantry.flatpack.archive.bundle import dump_bundle, load_bundle
from pantry.flatpack.folder import entries_of, list_files
from pantry.flatpack.signing.keys import PrivateKey, new_key
from pantry.flatpack.signing.signature import sign, sign_payload, verify
from pantry.flatpack.signing.trust import Rule, Trust
from pantry.flatpack.statement import Entry, Frame, Statement, dump_statement


def model_signing(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The real command of OpenSSF Model Signing."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "model_signing"), *words], capture_output=True, text=True, check=False
    )


def unboxed(path: Path, target: Path) -> Path:
    with Reader(path) as reader:
        reader.unbox(target)
    return target


class TestTheStandardCommand:
    @pytest.mark.parametrize("kinds", ["p256", "p384", "p256+rsa"])
    def test_it_accepts_an_unboxed_flatpack(
        self, packed: Path, tmp_path: Path, kinds: str, ec_key: PrivateKey, rsa_key: PrivateKey
    ) -> None:
        key = new_key("p384") if kinds == "p384" else ec_key
        keys = [rsa_key, key] if "rsa" in kinds else [key]
        folder = unboxed(sign(packed, keys), tmp_path / "out")
        (tmp_path / "pub.pem").write_bytes(key.public.pem)
        done = model_signing(
            "verify", "key", folder, "--signature", folder / "model.sig", "--public_key", tmp_path / "pub.pem"
        )
        assert (done.returncode, done.stdout) == (0, "Verification succeeded\n")

    def test_it_refuses_a_changed_one(self, signed: Path, tmp_path: Path, ec_key: PrivateKey) -> None:
        folder = unboxed(signed, tmp_path / "out")
        (folder / "README.md").write_text("changed")
        (tmp_path / "pub.pem").write_bytes(ec_key.public.pem)
        done = model_signing(
            "verify", "key", folder, "--signature", folder / "model.sig", "--public_key", tmp_path / "pub.pem"
        )
        assert done.returncode == 1
        assert "README.md" in done.stderr

    @pytest.mark.parametrize("kind", ["p256", "p384"])
    def test_what_it_signs_verifies_here(self, source: Path, tmp_path: Path, kind: str) -> None:
        key = new_key("p384" if kind == "p384" else "p256")
        (tmp_path / "key.pem").write_bytes(key.pem(None))
        done = model_signing(
            "sign", "key", source, "--signature", source / "model.sig", "--private_key", tmp_path / "key.pem"
        )
        assert done.returncode == 0, done.stderr
        verdict = verify(source, Trust.only(key.public, name="Ada"))
        assert (verdict.ok, verdict.signer, verdict.name) == (True, "Ada", "ada/tiny")

    def test_what_it_signs_is_refused_here_once_changed(self, source: Path, tmp_path: Path) -> None:
        key = new_key("p256")
        (tmp_path / "key.pem").write_bytes(key.pem(None))
        model_signing("sign", "key", source, "--signature", source / "model.sig", "--private_key", tmp_path / "key.pem")
        (source / "README.md").write_text("changed")
        verdict = verify(source, Trust.only(key.public))
        assert (verdict.ok, verdict.state) == (False, "bad")
        assert "'README.md' was changed" in verdict.sentence


class TestVerdicts:
    def test_trusted(self, signed: Path, trust: Trust) -> None:
        verdict = verify(signed, trust)
        assert (verdict.ok, verdict.state, verdict.signer) == (True, "trusted", "Ada")
        assert verdict.sentence.startswith("ada/tiny 1.0.0 is signed by Ada (p256 ")

    def test_either_key_alone_is_enough(self, signed: Path, ec_key: PrivateKey, rsa_key: PrivateKey) -> None:
        assert verify(signed, Trust.only(ec_key.public)).ok
        assert verify(signed, Trust.only(rsa_key.public)).ok

    def test_rsa_alone(self, packed: Path, rsa_key: PrivateKey) -> None:
        path = sign(packed, [rsa_key])
        assert verify(path, Trust.only(rsa_key.public)).ok
        with Reader(path) as reader:
            assert len(reader.bundle.signatures) == 1

    @pytest.mark.parametrize("bits", [256, 384, 512])
    def test_every_hash_of_rsa(self, packed: Path, rsa_key: PrivateKey, bits: int) -> None:
        path = sign(packed, [rsa_key], bits=bits)  # type: ignore[arg-type]
        with Reader(path) as reader:
            assert reader.bundle.signatures[0].keyid == f"rsa-pss-sha{bits}:{rsa_key.public.id}"
        assert verify(path, Trust.only(rsa_key.public)).ok

    def test_unsigned(self, packed: Path, trust: Trust) -> None:
        verdict = verify(packed, trust)
        assert (verdict.ok, verdict.state, verdict.sentence) == (False, "unsigned", "ada/tiny 1.0.0 is not signed.")

    def test_wrong_key(self, signed: Path) -> None:
        verdict = verify(signed, Trust.only(new_key("p256").public))
        assert (verdict.ok, verdict.state, verdict.signer) == (False, "untrusted", None)
        assert "a key that is not known here" in verdict.sentence

    def test_a_signature_by_another_under_a_trusted_name(
        self, packed: Path, ec_key: PrivateKey, tmp_path: Path
    ) -> None:
        """The hint and keyid name the trusted key; the signature is someone else's."""
        path = sign(packed, [new_key("p256")], tmp_path / "evil.fpk")
        good = sign(packed, [ec_key], tmp_path / "good.fpk")
        with Reader(path) as evil, Reader(good) as fine:
            table = json.loads(fine.bundle_bytes)
            table["dsseEnvelope"]["signatures"][0]["sig"] = json.loads(evil.bundle_bytes)["dsseEnvelope"]["signatures"][
                0
            ]["sig"]
        folder = unboxed(packed, tmp_path / "out")
        (folder / "model.sig").write_text(json.dumps(table))
        assert verify(folder, Trust.only(ec_key.public)).state == "bad"

    @pytest.mark.parametrize(("mode", "ok"), [("enforce", False), ("warn", True), ("off", True)])
    def test_modes_let_unsigned_and_untrusted_pass(self, packed: Path, signed: Path, mode: str, ok: bool) -> None:
        trust = Trust(mode)  # type: ignore[arg-type]
        assert (verify(packed, trust).ok, verify(packed, trust).state) == (ok, "unsigned")
        assert (verify(signed, trust).ok, verify(signed, trust).state) == (ok, "untrusted")

    @pytest.mark.parametrize("mode", ["enforce", "warn", "off"])
    @pytest.mark.parametrize("by", ["nobody", "a stranger"])
    def test_bytes_are_checked_whoever_signed_them(self, packed: Path, mode: str, by: str) -> None:
        file = packed if by == "nobody" else sign(packed, [new_key("p256")])
        with Reader(file) as reader:
            at = reader.data_size - 20
        content = bytearray(file.read_bytes())
        content[at] ^= 1
        file.write_bytes(content)
        verdict = verify(file, Trust(mode))  # type: ignore[arg-type]
        assert (verdict.ok, verdict.state) == (False, "bad")

    @pytest.mark.parametrize("mode", ["enforce", "warn", "off"])
    def test_no_mode_lets_a_bad_one_pass(self, signed: Path, mode: str) -> None:
        signed.write_bytes(signed.read_bytes()[:-1])
        assert not verify(signed, Trust(mode)).ok  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("rule", "words"),
        [
            ({"pattern": "bob/*"}, "trusted for 'bob/*' only, not for 'ada/tiny'"),
            ({"not_before": datetime.date(2027, 1, 1)}, "trusted from 2027-01-01 on only"),
            ({"not_after": datetime.date(2026, 1, 1)}, "its trust ended on 2026-01-01"),
        ],
    )
    def test_a_key_outside_its_rules(
        self, packed: Path, ec_key: PrivateKey, rule: dict[str, object], words: str
    ) -> None:
        path = sign(packed, [ec_key])
        key = ec_key.public
        rules = (Rule.model_validate({"keys": (key.id,), **rule}),)
        trust = Trust("enforce", rules, {key.id: key}, today=datetime.date(2026, 7, 1))
        verdict = verify(path, trust)
        assert (verdict.ok, verdict.state) == (False, "untrusted")
        assert words in verdict.sentence

    @pytest.mark.parametrize(("day", "state"), [(1, "untrusted"), (2, "trusted"), (3, "trusted"), (4, "untrusted")])
    def test_the_first_and_the_last_day_of_a_rule_are_within(
        self, packed: Path, ec_key: PrivateKey, day: int, state: str
    ) -> None:
        key, first, last = ec_key.public, datetime.date(2026, 7, 2), datetime.date(2026, 7, 3)
        rules = (Rule(keys=(key.id,), not_before=first, not_after=last),)
        trust = Trust("enforce", rules, {key.id: key}, today=datetime.date(2026, 7, day))
        assert verify(sign(packed, [ec_key]), trust).state == state

    def test_a_missing_path(self, tmp_path: Path, trust: Trust) -> None:
        with pytest.raises(NotFoundError):
            verify(tmp_path / "no.fpk", trust)


class TestFolders:
    def test_an_unboxed_folder_verifies(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        assert verify(unboxed(signed, tmp_path / "out"), trust).ok

    @pytest.mark.parametrize("name", ["extra", "sub/extra", ".hidden", "Model.sig", ".gitattributes"])
    def test_a_file_that_is_not_signed_is_refused(self, signed: Path, trust: Trust, tmp_path: Path, name: str) -> None:
        folder = unboxed(signed, tmp_path / "out")
        (folder / name).write_text("evil")
        verdict = verify(folder, trust)
        assert (verdict.ok, verdict.state) == (False, "bad")
        assert f"Not covered by the signature: {name!r}" in verdict.sentence

    def test_a_link_beside_signed_files_is_refused(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        folder = unboxed(signed, tmp_path / "out")
        (folder / "README.md").unlink()
        (folder / "README.md").symlink_to("run.sh")
        assert verify(folder, trust).state == "bad"

    def test_a_missing_file_is_refused(self, signed: Path, trust: Trust, tmp_path: Path) -> None:
        folder = unboxed(signed, tmp_path / "out")
        (folder / "empty").unlink()
        assert "Signed, but not there: 'empty'" in verify(folder, trust).sentence

    def test_a_folder_without_bundle_is_unsigned(self, source: Path, trust: Trust) -> None:
        assert verify(source, trust).state == "unsigned"


class TestSigning:
    def test_ecdsa_comes_first(self, signed: Path, ec_key: PrivateKey, rsa_key: PrivateKey) -> None:
        with Reader(signed) as reader:
            keyids = [signature.keyid for signature in reader.bundle.signatures]
            assert reader.bundle.hint == ec_key.public.hint
        assert keyids == [ec_key.public.keyid(), rsa_key.public.keyid()]

    def test_signing_changes_the_tail_only(self, packed: Path, signed: Path) -> None:
        with Reader(packed) as before, Reader(signed) as after:
            assert before.bundle.payload == after.bundle.payload
            size = after.data_size
        assert packed.read_bytes()[:size] == signed.read_bytes()[:size]

    @pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
    def test_what_was_private_stays_private(self, packed: Path, tmp_path: Path, ec_key: PrivateKey, mode: int) -> None:
        packed.chmod(mode)
        for signed in (sign(packed, [ec_key], tmp_path / "other.fpk"), sign(packed, [ec_key])):
            assert signed.stat().st_mode & 0o777 == mode

    def test_signing_again_replaces(self, signed: Path, ec_key: PrivateKey) -> None:
        sign(signed, [ec_key])
        with Reader(signed) as reader:
            assert len(reader.bundle.signatures) == 1

    def test_a_damaged_flatpack_is_not_signed(self, source: Path, tmp_path: Path, ec_key: PrivateKey) -> None:
        path = pack(source, tmp_path / "a.fpk", level=None).path
        content = bytearray(path.read_bytes())
        content[2500] ^= 1
        path.write_bytes(content)
        with pytest.raises(VerificationError):
            sign(path, [ec_key], tmp_path / "b.fpk")
        assert not (tmp_path / "b.fpk").exists()
        assert path.read_bytes() == content

    def test_no_key_is_an_error(self, packed: Path) -> None:
        with pytest.raises(UsageError, match="no key"):
            sign(packed, [])

    def test_the_bundle_beside_the_files_is_the_signed_one(self, signed: Path, tmp_path: Path) -> None:
        folder = unboxed(signed, tmp_path / "out")
        with Reader(signed) as reader:
            assert load_bundle((folder / "model.sig").read_bytes()) == reader.bundle


class TestNamesAndModesOfFolders:
    def test_the_manifest_has_the_name_that_was_signed(self, source: Path, trust: Trust, ec_key: PrivateKey) -> None:
        found = entries(source)
        payload = dump_statement(Statement("mallory/toy", found, (Frame(1, 1, found[0].digest),)))
        (source / "model.sig").write_bytes(dump_bundle(sign_payload(payload, [ec_key])))
        verdict = verify(source, trust)
        assert (verdict.ok, verdict.state) == (False, "bad")
        assert "'mallory/toy'" in verdict.sentence
        assert "'ada/tiny'" in verdict.sentence

    def test_another_tool_s_statement_is_judged_by_the_name_in_the_manifest(
        self, source: Path, ec_key: PrivateKey
    ) -> None:
        table = json.loads(dump_statement(Statement("mallory", entries(source))))
        del table["predicate"]["archive"]
        payload = json.dumps(table).encode()
        (source / "model.sig").write_bytes(dump_bundle(sign_payload(payload, [ec_key])))
        rule = Rule(name="Mallory", pattern="mallory*", keys=(ec_key.public.id,))
        verdict = verify(source, Trust("enforce", (rule,), {ec_key.public.id: ec_key.public}))
        assert (verdict.ok, verdict.state, verdict.name) == (False, "untrusted", "ada/tiny")

    @pytest.mark.parametrize(("name", "mode"), [("README.md", 0o755), ("run.sh", 0o644)])
    def test_what_may_be_run_is_what_was_signed(
        self, signed: Path, trust: Trust, tmp_path: Path, name: str, mode: int
    ) -> None:
        folder = unboxed(signed, tmp_path / "out")
        assert verify(folder, trust).ok
        (folder / name).chmod(mode)
        verdict = verify(folder, trust)
        assert (verdict.ok, verdict.state) == (False, "bad")
        assert f"'{name}' is a p" in verdict.sentence
        assert "chmod" in verdict.sentence

    def test_the_folder_one_is_in_has_a_name(self, source: Path, trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(source)
        verdict = verify(Path(), trust)
        assert (verdict.name, verdict.sentence) == ("tiny", "The folder tiny has no model.sig.")


def entries(folder: Path) -> tuple[Entry, ...]:
    found = list_files(folder)
    found.sort(key=lambda item: item.path != "flatpack.toml")
    return tuple(entries_of(folder, found))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_what_is_no_plain_file_is_refused_without_waiting(
    tmp_path: Path, trust: Trust, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x.fpk")
    verdict = verify(tmp_path / "x.fpk", trust)
    assert (verdict.state, "not a plain file" in verdict.sentence) == ("bad", True)
