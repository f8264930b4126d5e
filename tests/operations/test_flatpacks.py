from __future__ import annotations

import datetime
import os
import re
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, VerificationError
from pantry.core.paths import Paths
from pantry.flatpack.legacy.archive import compress
from pantry.flatpack.manifest import read_manifest
from pantry.flatpack.signing.keys import PrivateKey, new_key
from pantry.flatpack.signing.trust import Mode, TrustFile, read_trust_file, write_trust_file
from pantry.operations import flatpacks
from pantry.operations.datasets import export_card, import_card, new_card
from pantry.operations.keys import export, key_rows, new_identity

pytestmark = pytest.mark.usefixtures("ready_rsa_keys")


def silent(key: str) -> bytes | None:
    return None


def fill(folder: Path) -> None:
    """Fill in every field in brackets, as a user would."""
    manifest, card = folder / "flatpack.toml", folder / "DATASET.md"
    text = re.sub(r'"\[licence[^"]*\]"', '"CC-BY-4.0"', manifest.read_text())
    manifest.write_text(re.sub(r'"\[([^"]*)\]"', r'"\1"', text))
    card.write_text(re.sub(r"\[([^\[\]\n]+)\]", r"\1", card.read_text()))


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    folder = tmp_path / "tales"
    flatpacks.start_flatpack(folder, "recipe")
    fill(folder)
    return folder


@pytest.fixture
def identity(paths: Paths) -> str:
    new_identity(paths, "me", "both", None)
    return "me"


@pytest.mark.parametrize("template", flatpacks.TEMPLATES)
def test_a_template_packs_once_its_fields_are_filled(template: str, tmp_path: Path) -> None:
    folder = tmp_path / "my-pack"
    flatpacks.start_flatpack(folder, template)
    with pytest.raises(BadFileError) as error:
        flatpacks.pack_flatpack(folder)
    named = error.value.message
    for file in ("flatpack.toml", "DATASET.md"):
        for number, line in enumerate((folder / file).read_text().splitlines(), 1):
            if re.search(r"(?<!\[)\[[a-z][^\[\]]* [^\[\]]*\]", line) and not line.startswith("#"):
                assert f"{file}, line {number}:" in named, line
    fill(folder)
    packed = flatpacks.pack_flatpack(folder)
    assert packed.path == tmp_path / "my-pack.fpk"
    assert (packed.manifest.kind, packed.manifest.name) == (template, "my-pack")


def test_init_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    with pytest.raises(ConflictError):
        flatpacks.start_flatpack(tmp_path)
    assert [item.name for item in tmp_path.iterdir()] == ["README.md"]


def test_an_unknown_template_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'recipe'"):
        flatpacks.start_flatpack(tmp_path / "x", "receipe")


def test_a_link_to_nothing_is_not_replaced(tmp_path: Path) -> None:
    link = tmp_path / "DATASET.md"
    link.symlink_to("elsewhere")
    with pytest.raises(ConflictError, match="exists already"):
        new_card(link)
    with pytest.raises(ConflictError, match="exists already"):
        flatpacks.start_flatpack(tmp_path)
    assert link.is_symlink()


def test_a_folder_whose_name_cannot_be_a_flatpacks(tmp_path: Path) -> None:
    flatpacks.start_flatpack(tmp_path / "My Pack!")
    assert 'name = "[publisher/name]"' in (tmp_path / "My Pack!" / "flatpack.toml").read_text()


def test_a_missing_card_stops_packing(filled: Path) -> None:
    (filled / "DATASET.md").unlink()
    with pytest.raises(BadFileError, match="pantry dataset new"):
        flatpacks.pack_flatpack(filled)


@pytest.mark.parametrize("template", ["model", "adapter"])
def test_leaving_out_the_card_and_the_licence_of_the_data_does_not_do(template: str, tmp_path: Path) -> None:
    folder = tmp_path / "quiet"
    flatpacks.start_flatpack(folder, template)
    fill(folder)
    (folder / "DATASET.md").unlink()
    manifest = folder / "flatpack.toml"
    manifest.write_text(re.sub(r"(?m)^data = .*\n", "", manifest.read_text()))
    with pytest.raises(BadFileError, match="has no DATASET") as error:
        flatpacks.pack_flatpack(folder)
    assert "data_unknown" in (error.value.hint or "")
    manifest.write_text(manifest.read_text() + '[provenance]\ndata_unknown = "Meta tells nothing of them."\n')
    path = flatpacks.pack_flatpack(folder).path
    assert flatpacks.inspect_flatpack(path).data == "not known: Meta tells nothing of them."


def test_a_recipe_cannot_say_that_its_data_are_unknown(filled: Path) -> None:
    manifest = filled / "flatpack.toml"
    manifest.write_text(manifest.read_text() + '[provenance]\ndata_unknown = "We forgot."\n')
    with pytest.raises(BadFileError, match="data_unknown contradicts kind = 'recipe'"):
        flatpacks.pack_flatpack(filled)


def test_a_card_that_is_not_needed_is_filled_in_all_the_same(tmp_path: Path) -> None:
    flatpacks.start_flatpack(tmp_path / "m", "model")
    card = (tmp_path / "m" / "DATASET.md").read_text()
    fill(tmp_path / "m")
    manifest = tmp_path / "m" / "flatpack.toml"
    text = re.sub(r"(?m)^data = .*\n", "", manifest.read_text())
    manifest.write_text(text + '[provenance]\ndata_unknown = "Not ours."\n')
    (tmp_path / "m" / "DATASET.md").write_text(card)
    with pytest.raises(BadFileError, match=r"DATASET\.md, line"):
        flatpacks.pack_flatpack(tmp_path / "m")


def test_files_that_the_manifest_names_must_be_there(tmp_path: Path) -> None:
    folder = tmp_path / "m"
    flatpacks.start_flatpack(folder, "model")
    fill(folder)
    manifest = folder / "flatpack.toml"
    manifest.write_text(manifest.read_text() + 'file = "m.gguf"\nchat_template = "chat.jinja"\n')
    with pytest.raises(BadFileError) as error:
        flatpacks.pack_flatpack(folder)
    assert "model.file = 'm.gguf': there is no such file" in error.value.message
    assert "model.chat_template = 'chat.jinja'" in error.value.message
    (folder / "m.gguf").mkdir()
    (folder / "chat.jinja").touch()
    with pytest.raises(BadFileError, match=r"model\.file"):
        flatpacks.pack_flatpack(folder)


def test_script_and_data_of_a_recipe_must_be_there(filled: Path) -> None:
    (filled / "train.sh").unlink()
    (filled / "data").rmdir()
    with pytest.raises(BadFileError) as error:
        flatpacks.pack_flatpack(filled)
    assert [line.partition(": ")[2] for line in error.value.message.splitlines()] == [
        "recipe.run = 'train.sh': there is no such file.",
        "recipe.data = 'data': there is no such file or folder.",
    ]


def test_empty_folders_are_left_out_and_named(filled: Path) -> None:
    (filled / "notes" / "later").mkdir(parents=True)
    assert flatpacks.pack_flatpack(filled).left_out == ("data", "notes/later")
    (filled / "data" / "a.txt").write_text("a")
    assert flatpacks.pack_flatpack(filled).left_out == ("notes/later",)


def test_pack_sign_verify_inspect_unbox(filled: Path, paths: Paths, identity: str, tmp_path: Path) -> None:
    path = flatpacks.pack_flatpack(filled).path
    assert not flatpacks.verify_flatpack(paths, path).ok
    flatpacks.sign_flatpack(paths, path, identity, silent, bits=512)
    verdict = flatpacks.verify_flatpack(paths, path)
    assert (verdict.ok, verdict.signer) == (True, "me")
    found = flatpacks.inspect_flatpack(path)
    assert [kind for kind, _ in found.signers] == ["ecdsa-p256-sha256", "rsa-pss-sha512"]
    assert [key for _, key in found.signers] == [row.id for row in key_rows(paths)]
    done = flatpacks.unbox_flatpack(paths, path, tmp_path / "out")
    assert read_manifest(done.folder) == found.manifest
    assert flatpacks.verify_flatpack(paths, done.folder).ok


def test_unsigned_is_refused_unless_allowed(filled: Path, paths: Paths, tmp_path: Path) -> None:
    path = flatpacks.pack_flatpack(filled).path
    with pytest.raises(VerificationError, match="is not signed") as error:
        flatpacks.unbox_flatpack(paths, path, tmp_path / "out")
    assert "--allow-unsigned" in (error.value.hint or "")
    assert not (tmp_path / "out").exists()
    assert flatpacks.unbox_flatpack(paths, path, tmp_path / "out", allow_unsigned=True).verdict.state == "unsigned"


def test_a_bad_signature_is_never_allowed(filled: Path, paths: Paths, identity: str, tmp_path: Path) -> None:
    path = flatpacks.pack_flatpack(filled).path
    flatpacks.sign_flatpack(paths, path, identity, silent)
    content = path.read_bytes()
    at = content.rindex(b'"sig":"') + 20
    path.write_bytes(content[:at] + (b"A" if content[at : at + 1] != b"A" else b"B") + content[at + 1 :])
    with pytest.raises(VerificationError, match="is wrong"):
        flatpacks.unbox_flatpack(paths, path, tmp_path / "out", allow_unsigned=True)
    assert not (tmp_path / "out").exists()


def test_a_level_out_of_range(filled: Path) -> None:
    with pytest.raises(UsageError, match="expected 1"):
        flatpacks.pack_flatpack(filled, level=23)


def test_a_folder_given_for_a_flatpack_is_named_as_such(filled: Path, paths: Paths, tmp_path: Path) -> None:
    for work in (flatpacks.inspect_flatpack, lambda path: flatpacks.unbox_flatpack(paths, path)):
        with pytest.raises(UsageError, match="is a folder") as error:
            work(filled)
        assert "pantry verify" in (error.value.hint or "")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="pipe"):
        flatpacks.inspect_flatpack(tmp_path / "pipe")
    with pytest.raises(UsageError, match="expected a file or folder"):
        compress(tmp_path / "pipe", tmp_path / "out")


def test_nobody_is_left_in_a_removed_folder(
    filled: Path, paths: Paths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = flatpacks.pack_flatpack(filled).path
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = here.stat().st_ino
    for target in (Path(), here, Path("../here")):
        with pytest.raises(ConflictError, match="the folder you are in"):
            flatpacks.unbox_flatpack(paths, path, target, allow_unsigned=True)
    assert here.stat().st_ino == before
    flatpacks.unbox_flatpack(paths, path, Path("new"), allow_unsigned=True)
    assert (here / "new" / "flatpack.toml").is_file()


class TestLegacy:
    def test_sign_in_legacy_format_and_back(self, filled: Path, paths: Paths, identity: str, tmp_path: Path) -> None:
        path = flatpacks.pack_flatpack(filled).path
        out = tmp_path / "old.fpk"
        flatpacks.sign_flatpack(paths, path, identity, silent, out=out, form="legacy", bits=384)
        verdict = flatpacks.verify_flatpack(paths, out)
        assert (verdict.ok, verdict.signer) == (True, "me")
        assert "SHA-384" in verdict.sentence
        done = flatpacks.unbox_flatpack(paths, out, tmp_path / "out")
        assert read_manifest(done.folder) == read_manifest(filled)
        assert {item.name for item in tmp_path.iterdir()} == {"home", "tales", "tales.fpk", "old.fpk", "out"}

    def test_a_key_trusted_for_some_names_only_does_not_do(
        self, filled: Path, paths: Paths, tmp_path: Path, home: Path
    ) -> None:
        from pantry.core.paths import find_paths
        from pantry.operations.keys import trust

        new_identity(paths, "old", "rsa4096", None)
        path, out = flatpacks.pack_flatpack(filled).path, tmp_path / "legacy.fpk"
        path = flatpacks.sign_flatpack(paths, path, "old", silent, out=out, form="legacy")
        (tmp_path / "old.pem").write_text(export(paths, "old"))
        other = find_paths({"PANTRY_HOME": str(tmp_path / "other")})
        trust(other, tmp_path / "old.pem", "old/*")
        with pytest.raises(VerificationError):
            flatpacks.unbox_flatpack(other, path, tmp_path / "out")
        trust(other, tmp_path / "old.pem")
        assert flatpacks.unbox_flatpack(other, path, tmp_path / "out").verdict.ok

    def test_an_ec_key_alone_is_an_error(self, filled: Path, paths: Paths) -> None:
        new_identity(paths, "ec", "p256", None)
        path = flatpacks.pack_flatpack(filled).path
        before = path.read_bytes()
        with pytest.raises(UsageError, match="needs an RSA key"):
            flatpacks.sign_flatpack(paths, path, "ec", silent, out=filled.parent / "l.fpk", form="legacy")
        assert path.read_bytes() == before

    def test_what_a_legacy_file_cannot(self, filled: Path, paths: Paths, identity: str, tmp_path: Path) -> None:
        path, out = flatpacks.pack_flatpack(filled).path, tmp_path / "legacy.fpk"
        path = flatpacks.sign_flatpack(paths, path, identity, silent, out=out, form="legacy")
        with pytest.raises(UsageError, match="legacy"):
            flatpacks.inspect_flatpack(path)
        with pytest.raises(UsageError, match="--only"):
            flatpacks.unbox_flatpack(paths, path, tmp_path / "out", only=["*"])
        with pytest.raises(UsageError, match="legacy"):
            flatpacks.sign_flatpack(paths, path, identity, silent)

    def test_a_flatpack_of_2023_becomes_a_container(self, paths: Paths, identity: str, tmp_path: Path) -> None:
        folder = tmp_path / "hello_world"
        folder.mkdir()
        (folder / "flatpack.toml").write_text('version = "0.0.1"\n[[cmd]]\ncommand = "bash"\nargs = "train.sh"\n')
        key = next((paths.config / "keys").glob("me.rsa4096.pem"))
        signed = tmp_path / "signed.fpk"
        flatpacks.compress_and_sign(folder, tmp_path / "c.fpk", signed, key, 256, silent)
        done = flatpacks.unbox_flatpack(paths, signed, tmp_path / "out")
        made = flatpacks.write_containerfile(done.folder)
        assert [str(file.relative_to(tmp_path)) for file in made] == [
            "out/hello_world/Containerfile",
            "out/hello_world/venv.sh",
        ]
        subprocess.run(["sh", "-n", made[1]], check=True)

    @pytest.mark.parametrize(("mode", "ok"), [("enforce", False), ("warn", True), ("off", True)])
    def test_the_mode_counts_for_files_of_2023_too(
        self,
        filled: Path,
        paths: Paths,
        identity: str,
        tmp_path: Path,
        mode: Mode,
        ok: bool,
    ) -> None:
        fpk = flatpacks.pack_flatpack(filled).path
        path = flatpacks.sign_flatpack(paths, fpk, identity, silent, out=tmp_path / "l.fpk", form="legacy")
        write_trust_file(paths, TrustFile(mode=mode))
        verdict = flatpacks.verify_flatpack(paths, path)
        assert (verdict.ok, verdict.state) == (ok, "untrusted")
        assert "by a key that is known here" in verdict.sentence
        if ok:
            assert flatpacks.unbox_flatpack(paths, path, tmp_path / "out").files
        else:
            with pytest.raises(VerificationError):
                flatpacks.unbox_flatpack(paths, path, tmp_path / "out")

    def test_with_a_key_nothing_but_its_signature_does(
        self, filled: Path, paths: Paths, identity: str, tmp_path: Path
    ) -> None:
        fpk = flatpacks.pack_flatpack(filled).path
        path = flatpacks.sign_flatpack(paths, fpk, identity, silent, out=tmp_path / "l.fpk", form="legacy")
        mine, other, ec = tmp_path / "mine.pem", tmp_path / "other.pem", tmp_path / "ec.pem"
        mine.write_text(export(paths, identity))
        other.write_bytes(PrivateKey(generate_private_key(65537, 2048)).public.pem)
        ec.write_bytes(new_key("p256").public.pem)
        assert flatpacks.verify_flatpack(paths, path, mine).ok
        content = bytearray(path.read_bytes())
        content[100] ^= 1
        flipped = tmp_path / "flipped.fpk"
        flipped.write_bytes(content)
        write_trust_file(paths, TrustFile(mode="off"))
        for file, key, words in (
            (flipped, mine, "is not what mine.pem signed: something was changed after signing"),
            (path, other, "is not signed by other.pem: the signature has 4096 bits, the key 2048"),
            (path, ec, "ec.pem holds none"),
        ):
            verdict = flatpacks.verify_flatpack(paths, file, key)
            assert (verdict.ok, verdict.state) == (False, "bad")
            assert words in verdict.sentence
            with pytest.raises(VerificationError, match="With --key only what"):
                flatpacks.unbox_flatpack(paths, file, tmp_path / "out", allow_unsigned=True, key=key)
        assert not (tmp_path / "out").exists()
        with pytest.raises(VerificationError, match="With --key only what"):
            flatpacks.unbox_flatpack(paths, fpk, tmp_path / "out", allow_unsigned=True, key=mine)

    def test_the_reason_why_a_known_key_does_not_do(self, filled: Path, paths: Paths, tmp_path: Path) -> None:
        new_identity(paths, "old", "rsa4096", None)
        fpk = flatpacks.pack_flatpack(filled).path
        path = flatpacks.sign_flatpack(paths, fpk, "old", silent, out=tmp_path / "l.fpk", form="legacy")
        (rule,) = read_trust_file(paths).trust
        for changed, words in (
            ({"pattern": "old/*"}, "is signed by old (RSA-PSS, SHA-256), but that key is trusted for 'old/*' only"),
            ({"not_after": datetime.date(2020, 1, 1)}, "its trust ended on 2020-01-01"),
        ):
            write_trust_file(paths, TrustFile(trust=(rule.model_copy(update=changed),)))
            assert words in flatpacks.verify_flatpack(paths, path).sentence

    def test_version_2_has_no_container(self, filled: Path) -> None:
        with pytest.raises(UsageError, match="version 2"):
            flatpacks.write_containerfile(filled)


class TestCards:
    def test_new_export_import(self, filled: Path, tmp_path: Path) -> None:
        (filled / "data" / "train.csv").write_text("a,b\n")
        croissant = export_card(filled, "croissant")
        assert '"contentUrl": "data/train.csv"' in croissant
        assert "flatpack.toml" not in croissant
        (tmp_path / "README.md").write_text(export_card(filled / "DATASET.md", "huggingface"))
        assert import_card(tmp_path / "README.md", tmp_path / "back.md") == []

    def test_nothing_is_overwritten(self, filled: Path) -> None:
        with pytest.raises(ConflictError):
            new_card(filled)

    def test_unknown_formats_and_missing_files(self, filled: Path, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="Known: croissant"):
            export_card(filled, "datacite")
        with pytest.raises(NotFoundError):
            export_card(tmp_path / "none", "croissant")
