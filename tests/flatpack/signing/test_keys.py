from __future__ import annotations

import datetime
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UnauthorisedError, UsageError
from pantry.core.paths import Paths
from pantry.flatpack.signing import keyring
from pantry.flatpack.signing.keys import (
    PrivateKey,
    PublicKey,
    load_private_key,
    load_public_key,
    load_public_keys,
    new_key,
)
from pantry.flatpack.signing.trust import load_trust, read_trust_file, trust_file, trusted_folder


class TestKeyFiles:
    def test_the_openssl_commands_of_2023_make_keys_that_work(self, tmp_path: Path) -> None:
        private, public = tmp_path / "private_key.pem", tmp_path / "public_key.pem"
        make = "openssl genpkey -algorithm RSA -aes256 -pkeyopt rsa_keygen_bits:4096 -pass pass:secret -out"
        subprocess.run([*make.split(), private], check=True, capture_output=True)
        derive = f"openssl rsa -pubout -passin pass:secret -in {private} -out {public}"
        subprocess.run(derive.split(), check=True, capture_output=True)
        key = load_private_key(private.read_bytes(), b"secret", "private_key.pem")
        assert load_public_key(public.read_bytes(), "public_key.pem").id == key.public.id
        assert key.public.type == "rsa4096"

    @pytest.mark.parametrize("passphrase", [b"wrong", b"", None])
    def test_a_wrong_passphrase_is_a_clear_error(self, passphrase: bytes | None) -> None:
        content = new_key("p256").pem(b"secret")
        with pytest.raises(UnauthorisedError, match=r"passphrase"):
            load_private_key(content, passphrase, "me.pem")

    def test_a_passphrase_for_a_key_without_lock_is_not_needed(self) -> None:
        key = new_key("p256")
        assert load_private_key(key.pem(None), b"unneeded", "me.pem").public.id == key.public.id

    @pytest.mark.parametrize(
        "content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"]
    )
    def test_what_is_no_key(self, content: bytes) -> None:
        with pytest.raises(BadFileError):
            load_private_key(content, None, "x.pem")
        with pytest.raises(BadFileError):
            load_public_key(content, "x.pem")

    def test_a_private_key_where_a_public_one_belongs_names_the_way_out(self) -> None:
        with pytest.raises(BadFileError, match="openssl pkey") as error:
            load_public_key(new_key("p256").pem(None), "x.pem")
        assert "private key" in error.value.message

    def test_other_kinds_of_key_are_refused(self) -> None:
        pem = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        with pytest.raises(BadFileError, match="expected RSA or ECDSA"):
            load_private_key(pem, None, "x.pem")
        curve = ec.generate_private_key(ec.SECP256K1()).public_key()
        with pytest.raises(BadFileError, match="the curve secp256k1"):
            load_public_key(curve.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "x.pem")

    def test_short_rsa_keys_are_refused(self) -> None:
        short = rsa.generate_private_key(65537, 1024).public_key()
        with pytest.raises(BadFileError, match="RSA with 1024 bits"):
            load_public_key(short.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "x.pem")

    @pytest.mark.parametrize("kind", ["p256", "p384"])
    def test_signatures_are_of_their_data_and_key(self, kind: str) -> None:
        one, two = new_key(kind), new_key(kind)  # type: ignore[arg-type]
        signature = one.sign(b"data")
        assert one.public.verifies(signature, b"data")
        assert not one.public.verifies(signature, b"other")
        assert not two.public.verifies(signature, b"data")
        assert not one.public.verifies(b"", b"data")

    def test_rsa_salt_is_as_long_as_the_hash(self, rsa_key: PrivateKey, tmp_path: Path) -> None:
        (tmp_path / "sig").write_bytes(rsa_key.sign(b"data", 384))
        (tmp_path / "data").write_bytes(b"data")
        (tmp_path / "pub.pem").write_bytes(rsa_key.public.pem)
        check = "openssl dgst -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest -verify pub.pem"
        done = subprocess.run([*check.split(), "-signature", "sig", "data"], cwd=tmp_path, check=False)
        assert done.returncode == 0

    def test_a_keyid_that_names_a_hash_there_is_not(self, rsa_key: PrivateKey) -> None:
        assert not rsa_key.public.verifies(rsa_key.sign(b"x"), b"x", "rsa-pss-sha999:ab")

    def test_several_public_keys_in_one_file(self, ec_key: PrivateKey, rsa_key: PrivateKey) -> None:
        found = load_public_keys(ec_key.public.pem + rsa_key.public.pem, "both.pem")
        assert [key.id for key in found] == [ec_key.public.id, rsa_key.public.id]


def silent(key: str) -> bytes | None:
    return None


class TestKeyring:
    def test_an_identity_has_two_locked_keys_that_only_the_owner_reads(self, paths: Paths) -> None:
        identity = keyring.make_identity(paths, "me", keyring.kinds_of("both"), b"secret")
        assert [key.type for key in identity.keys] == ["p256", "rsa4096"]
        folder = keyring.keys_folder(paths)
        assert folder.stat().st_mode & 0o777 == 0o700
        for name in ("me.p256.pem", "me.rsa4096.pem"):
            assert (folder / name).stat().st_mode & 0o777 == 0o600
            assert b"ENCRYPTED" in (folder / name).read_bytes()
        asked = []

        def ask(key: str) -> bytes:
            asked.append(key)
            return b"secret"

        assert [key.public.id for key in keyring.signing_keys(paths, "me", ask)] == [key.id for key in identity.keys]
        assert len(asked) == 1

    def test_a_wrong_passphrase(self, paths: Paths) -> None:
        keyring.make_identity(paths, "me", ("p256",), b"secret")
        with pytest.raises(UnauthorisedError, match="does not open"):
            keyring.signing_keys(paths, "me", lambda key: b"wrong")
        with pytest.raises(UnauthorisedError, match="locked"):
            keyring.signing_keys(paths, "me", silent)

    def test_a_key_file_works_in_place_of_a_name(self, paths: Paths, tmp_path: Path, ec_key: PrivateKey) -> None:
        (tmp_path / "k.pem").write_bytes(ec_key.pem(None))
        (key,) = keyring.signing_keys(paths, str(tmp_path / "k.pem"), silent)
        assert key.public.id == ec_key.public.id

    def test_an_unknown_name_names_the_nearest(self, paths: Paths) -> None:
        keyring.make_identity(paths, "ada", ("p256",), None)
        with pytest.raises(NotFoundError, match="Did you mean 'ada'"):
            keyring.signing_keys(paths, "adda", silent)

    def test_a_name_is_not_made_twice(self, paths: Paths) -> None:
        keyring.make_identity(paths, "me", ("p256",), None)
        with pytest.raises(ConflictError):
            keyring.make_identity(paths, "me", ("p384",), None)

    @pytest.mark.parametrize("name", ["", "../me", "a/b", "a.b", "trusted", "x" * 65])
    def test_bad_names(self, paths: Paths, name: str) -> None:
        with pytest.raises(UsageError):
            keyring.make_identity(paths, name, ("p256",), None)

    def test_an_own_key_is_trusted(self, paths: Paths) -> None:
        identity = keyring.make_identity(paths, "me", ("p256",), None)
        assert load_trust(paths).owner(identity.keys[0].id) == "me"

    def test_trust_and_untrust(self, paths: Paths, ec_key: PrivateKey, rsa_key: PrivateKey) -> None:
        keyring.trust_key(paths, (ec_key.public,), "ada/*", "Ada", datetime.date(2026, 1, 1), datetime.date(2027, 1, 1))
        keyring.trust_key(paths, (ec_key.public,), "ada/*", "Ada", datetime.date(2026, 1, 1), datetime.date(2027, 1, 1))
        keyring.trust_key(paths, (rsa_key.public,), "bob/*", "Bob")
        trust = load_trust(paths)
        assert [(rule.name, rule.pattern) for rule in trust.rules] == [("Ada", "ada/*"), ("Bob", "bob/*")]
        assert trust.rules[0].not_after == datetime.date(2027, 1, 1)
        assert keyring.untrust_key(paths, ec_key.public.id[:10]) == [ec_key.public.id]
        assert keyring.untrust_key(paths, "Bob") == [rsa_key.public.id]
        assert load_trust(paths).rules == ()
        with pytest.raises(NotFoundError):
            keyring.untrust_key(paths, "Bob")

    def test_the_start_of_an_id_must_be_one_keys(self, paths: Paths) -> None:
        keys = tuple(new_key("p256").public for _ in range(20))
        keyring.trust_key(paths, keys)
        first = next(start for start in "0123456789abcdef" if sum(key.id.startswith(start) for key in keys) > 1)
        with pytest.raises(UsageError, match="begins"):
            keyring.untrust_key(paths, first)

    @pytest.mark.parametrize("length", [0, 1, 5])
    def test_next_to_nothing_removes_no_key(self, paths: Paths, ec_key: PrivateKey, length: int) -> None:
        keyring.trust_key(paths, (ec_key.public,), "*", "Ada")
        with pytest.raises((UsageError, NotFoundError)):
            keyring.untrust_key(paths, ec_key.public.id[:length])
        assert len(load_trust(paths).rules) == 1

    def test_two_holders_of_one_name_are_told_apart_by_id(
        self, paths: Paths, ec_key: PrivateKey, rsa_key: PrivateKey
    ) -> None:
        keyring.trust_key(paths, (ec_key.public,), "a/*", "key")
        keyring.trust_key(paths, (rsa_key.public,), "b/*", "key")
        with pytest.raises(UsageError, match="Several keys are called 'key'") as error:
            keyring.untrust_key(paths, "key")
        assert ec_key.public.id[:12] in (error.value.hint or "")
        assert keyring.untrust_key(paths, ec_key.public.id[:12]) == [ec_key.public.id]
        assert keyring.untrust_key(paths, "key") == [rsa_key.public.id]

    def test_the_keys_of_one_identity_go_together(self, paths: Paths) -> None:
        identity = keyring.make_identity(paths, "me", ("p256", "p384"), None)
        assert keyring.untrust_key(paths, "me") == [key.id for key in identity.keys]

    def test_remarks_in_the_rules_stay(self, paths: Paths, ec_key: PrivateKey, rsa_key: PrivateKey) -> None:
        keyring.trust_key(paths, (ec_key.public,), "ada/*", "Ada")
        rule = f"[[trust]]\nname = 'Ada'  # met in person\nkeys = [\n  '{ec_key.public.id}',\n]\n"
        text = f"# Only whom we know.\nmode = 'warn'\n\n{rule}"
        trust_file(paths).write_text(text)
        keyring.trust_key(paths, (rsa_key.public,), "bob/*", "Bob")
        assert trust_file(paths).read_text().startswith(text)
        keyring.untrust_key(paths, "Bob")
        assert trust_file(paths).read_text() == text
        keyring.untrust_key(paths, "Ada")
        assert trust_file(paths).read_text() == "# Only whom we know.\nmode = 'warn'\n"

    def test_trust_for_fewer_names_narrows(self, paths: Paths, ec_key: PrivateKey) -> None:
        identity = keyring.make_identity(paths, "me", ("p256", "p384"), None)
        _, replaced = keyring.trust_key(paths, identity.keys[:1], "me/*", "me")
        assert [rule.pattern for rule in replaced] == ["*"]
        first, second = (key.id for key in identity.keys)
        rules = load_trust(paths).rules
        assert [(rule.pattern, rule.keys) for rule in rules] == [("*", (second,)), ("me/*", (first,))]
        keyring.trust_key(paths, identity.keys[:1], "you/*", "me", keep=True)
        assert [rule.pattern for rule in load_trust(paths).rules_for(first)] == ["me/*", "you/*"]

    def test_days_in_the_wrong_order_and_no_pattern(self, paths: Paths, ec_key: PrivateKey) -> None:
        days = (datetime.date(2027, 1, 1), datetime.date(2026, 1, 1))
        with pytest.raises(UsageError, match="is before the first"):
            keyring.trust_key(paths, (ec_key.public,), "*", None, *days)
        with pytest.raises(UsageError, match="pattern of names is empty"):
            keyring.trust_key(paths, (ec_key.public,), "")
        assert load_trust(paths).rules == ()


class TestSeveralAtOnce:
    def test_every_rule_is_kept(self, paths: Paths) -> None:
        keys = [new_key("p256").public for _ in range(12)]
        with ThreadPoolExecutor(12) as pool:
            list(pool.map(lambda key: keyring.trust_key(paths, (key,), name=key.id), keys))
        assert {key for rule in read_trust_file(paths).trust for key in rule.keys} == {key.id for key in keys}

    def test_what_is_no_longer_trusted_does_not_come_back(self, paths: Paths) -> None:
        keys = [new_key("p256").public for _ in range(8)]
        for key in keys[:4]:
            keyring.trust_key(paths, (key,), name=key.id)
        with ThreadPoolExecutor(8) as pool:
            gone = [pool.submit(keyring.untrust_key, paths, key.id) for key in keys[:4]]
            list(pool.map(lambda key: keyring.trust_key(paths, (key,), name=key.id), keys[4:]))
        assert all(done.result() for done in gone)
        assert {key for rule in read_trust_file(paths).trust for key in rule.keys} == {key.id for key in keys[4:]}

    def test_one_key_of_a_name_is_made(self, paths: Paths) -> None:
        with ThreadPoolExecutor(4) as pool:
            done = [pool.submit(keyring.make_identity, paths, "me", ("p256",), None) for _ in range(4)]
        faults = [task.exception() for task in done]
        assert sum(fault is None for fault in faults) == 1
        assert all(isinstance(fault, ConflictError) for fault in faults if fault)
        (made,) = [task.result() for task in done if not task.exception()]
        assert keyring.signing_keys(paths, "me", lambda _: None)[0].public.id == made.keys[0].id


class TestTrustFile:
    def test_none_yet_means_enforce_and_nobody(self, paths: Paths) -> None:
        trust = load_trust(paths)
        assert (trust.mode, trust.rules) == ("enforce", ())

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("mod = 'off'", "there is no key 'mod'; did you mean 'mode'?"),
            ("mode = 'of'", "mode: 'of' is not known; expected 'off', 'warn' or 'enforce'; did you mean 'off'?"),
            ("[[trust]]\nkeys = ['xyz']", "trust.0.keys.0: 'xyz' is not a key id; expected 64 hex digits"),
            ("[[trust]]\npatern = 'x'\nkeys = []", "did you mean 'pattern'?"),
            ("[[trust]]\nkeys = []\nnot_before = 'soon'", "trust.0.not_before: 'soon' is not a date"),
            ("[[trust]]\nkeys = []\npattern = ''", "trust.0.pattern: it is empty"),
            ("[[trust]]\nkeys = []\nnot_before = 2026-02-01\nnot_after = 2026-01-01", "is before not_before"),
            ("mode = ", "not valid TOML"),
        ],
    )
    def test_what_is_wrong_is_named(self, paths: Paths, content: str, words: str) -> None:
        paths.config.mkdir(parents=True)
        trust_file(paths).write_text(content)
        with pytest.raises(BadFileError) as error:
            read_trust_file(paths)
        assert words in error.value.message

    def test_a_key_file_that_was_replaced_is_noticed(self, paths: Paths, ec_key: PrivateKey) -> None:
        keyring.trust_key(paths, (ec_key.public,))
        (trusted_folder(paths) / f"{ec_key.public.id}.pem").write_bytes(new_key("p256").public.pem)
        with pytest.raises(BadFileError, match="holds another key"):
            load_trust(paths)

    def test_a_key_file_that_is_gone_is_named(self, paths: Paths, ec_key: PrivateKey) -> None:
        keyring.trust_key(paths, (ec_key.public,))
        (trusted_folder(paths) / f"{ec_key.public.id}.pem").unlink()
        with pytest.raises(BadFileError, match="is not there"):
            load_trust(paths)


def test_a_public_key_keeps_its_names(ec_key: PrivateKey) -> None:
    again = load_public_key(ec_key.public.pem, "x")
    assert isinstance(again, PublicKey)
    assert (again.id, again.hint, again.keyid()) == (ec_key.public.id, ec_key.public.hint, ec_key.public.keyid())
