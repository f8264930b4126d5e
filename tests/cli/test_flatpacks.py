"""The commands init, pack, sign, verify, inspect, unbox, key and dataset, as a user types them; and the old scripts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pantry.flatpack.legacy.archive import SEPARATOR
from tests.operations.test_flatpacks import fill
from tests.processes import run_pantry

ROOT = Path(__file__).parent.parent.parent
Done = subprocess.CompletedProcess[str]


def pantry(*words: str | Path, cwd: Path, stdin: str = "") -> Done:
    return run_pantry(*words, cwd=cwd, stdin=stdin)


def script(function: str, *words: str | Path, cwd: Path, **environment: str) -> Done:
    name = {"compress_and_sign": "compress-and-sign-fpk", "verify_signed": "verify-signed-fpk"}[function]
    return run_pantry(*words, cwd=cwd, env=os.environ | environment, script=name)


@pytest.fixture(scope="module")
def openssl_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with RSA keys as OpenSSL makes them: unlocked.pem; locked.pem, by "secret"; and public.pem."""
    folder = tmp_path_factory.mktemp("openssl")
    for command in (
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 -out unlocked.pem",
        "pkey -in unlocked.pem -aes256 -passout pass:secret -out locked.pem",
        "rsa -pubout -in unlocked.pem -out public.pem",
    ):
        subprocess.run(["openssl", *command.split()], cwd=folder, check=True, capture_output=True)
    return folder


def ok(done: Done) -> str:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def failed(done: Done, code: int, words: str) -> None:
    assert done.returncode == code, (done.stdout, done.stderr)
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_next_step_can_be_pasted_into_a_shell(tmp_path: Path) -> None:
    assert "pantry pack 'my tales'" in pantry("init", "my tales", cwd=tmp_path).stderr


def test_the_whole_way_of_a_flatpack(tmp_path: Path) -> None:
    ok(pantry("init", "tales", "--template", "recipe", cwd=tmp_path))
    failed(pantry("pack", "tales", "-o", "t.fpk", cwd=tmp_path), 8, "summary is still [one sentence")
    fill(tmp_path / "tales")
    ok(pantry("dataset", "check", "tales", cwd=tmp_path))
    assert "Packed 4 files" in ok(pantry("pack", "tales", "-o", "t.fpk", cwd=tmp_path))

    failed(pantry("key", "new", "me", cwd=tmp_path), 2, "needs a passphrase")
    made = ok(pantry("key", "new", "me", "--passphrase-stdin", cwd=tmp_path, stdin="secret\n"))
    assert [line.split()[0] for line in made.splitlines()] == ["p256", "rsa4096"]
    assert "Cannot" not in ok(pantry("key", "list", cwd=tmp_path))

    sign = ("sign", "t.fpk", "--key", "me", "--passphrase-stdin")
    failed(pantry("verify", "t.fpk", cwd=tmp_path), 9, "tales 0.1.0 is not signed.")
    failed(pantry(*sign, cwd=tmp_path, stdin="wrong\n"), 4, "The passphrase does not open the key")
    failed(pantry("sign", "t.fpk", "--key", "me", cwd=tmp_path), 4, "locked with a passphrase")
    failed(pantry("sign", "t.fpk", "--key", "my", cwd=tmp_path), 3, "Did you mean 'me'?")
    ok(pantry(*sign, "--hash", "384", cwd=tmp_path, stdin="secret\n"))
    assert "is signed by me (p256 " in ok(pantry("verify", "t.fpk", cwd=tmp_path))

    shown = json.loads(ok(pantry("inspect", "t.fpk", "--json", cwd=tmp_path)))
    assert shown["manifest"]["name"] == "tales"
    assert [item["type"] for item in shown["signers"]] == ["ecdsa-p256-sha256", "rsa-pss-sha384"]
    assert shown["files"][0]["path"] == "flatpack.toml"
    assert "README.md" in ok(pantry("inspect", "t.fpk", cwd=tmp_path))

    failed(pantry("unbox", "t.fpk", "out", "--containerfile", cwd=tmp_path), 2, "is not of the format of 2023")
    assert not (tmp_path / "out").exists()
    assert "Unboxed 4 files" in ok(pantry("unbox", "t.fpk", "out", cwd=tmp_path))
    ok(pantry("verify", "out", cwd=tmp_path))
    (tmp_path / "out" / "README.md").write_text("changed")
    verdict = pantry("verify", "out", "--json", cwd=tmp_path)
    assert (verdict.returncode, json.loads(verdict.stdout)["state"]) == (9, "bad")


def test_another_machine_trusts_by_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ok(pantry("init", "d", "--template", "dataset", cwd=tmp_path))
    fill(tmp_path / "d")
    ok(pantry("pack", "d", cwd=tmp_path))
    ok(pantry("key", "new", "ada", "--type", "p256", "--no-passphrase", cwd=tmp_path))
    ok(pantry("sign", "d.fpk", "--key", "ada", cwd=tmp_path))
    (tmp_path / "ada.pem").write_text(ok(pantry("key", "export", "ada", cwd=tmp_path)))

    monkeypatch.setenv("PANTRY_HOME", str(tmp_path / "other"))
    failed(pantry("unbox", "d.fpk", "out", cwd=tmp_path), 9, "a key that is not known here")
    assert not (tmp_path / "out").exists()
    assert "signed by ada" in ok(pantry("verify", "d.fpk", "--key", "ada.pem", cwd=tmp_path))
    ok(pantry("key", "trust", "ada.pem", "--for", "ada/*", cwd=tmp_path))
    failed(pantry("verify", "d.fpk", cwd=tmp_path), 9, "trusted for 'ada/*' only, not for 'd'")
    ok(pantry("key", "trust", "ada.pem", "--for", "d", "--not-after", "2020-01-01", cwd=tmp_path))
    failed(pantry("verify", "d.fpk", cwd=tmp_path), 9, "its trust ended on 2020-01-01")
    ok(pantry("key", "trust", "ada.pem", "--for", "d", cwd=tmp_path))
    ok(pantry("verify", "d.fpk", cwd=tmp_path))
    narrowed = pantry("key", "trust", "ada.pem", "--for", "ada/*", cwd=tmp_path)
    assert "takes the place of: d." in narrowed.stderr
    failed(pantry("verify", "d.fpk", cwd=tmp_path), 9, "trusted for 'ada/*' only, not for 'd'")
    ok(pantry("key", "trust", "ada.pem", "--for", "d", "--keep", cwd=tmp_path))
    listed = json.loads(ok(pantry("key", "list", "--json", cwd=tmp_path)))
    assert [rule["pattern"] for rule in listed[0]["trusted"]] == ["ada/*", "d"]
    ok(pantry("key", "untrust", "ada", cwd=tmp_path))
    failed(pantry("verify", "d.fpk", cwd=tmp_path), 9, "not known here")
    ok(pantry("unbox", "d.fpk", "out", "--allow-unsigned", "--only", "README.md", cwd=tmp_path))
    assert [item.name for item in (tmp_path / "out").iterdir()] == ["README.md"]


def test_dataset_cards(tmp_path: Path) -> None:
    ok(pantry("dataset", "new", cwd=tmp_path))
    done = pantry("dataset", "check", cwd=tmp_path)
    assert done.returncode == 8
    assert done.stdout.splitlines()[0] == "DATASET.md:5: 'Name' of 'Dataset Summary' is still [dataset name]."
    assert json.loads(pantry("dataset", "check", "--json", cwd=tmp_path).stdout)[0]["line"] == 5
    failed(pantry("dataset", "new", cwd=tmp_path), 6, "exists already")
    failed(pantry("dataset", "export", cwd=tmp_path), 8, "line 5")
    (tmp_path / "README.md").write_text("---\npretty_name: Tales\nlicense: mit\n---\n")
    imported = ok(pantry("dataset", "import", "README.md", "-o", "card.md", cwd=tmp_path))
    assert "card.md:7: 'Description'" in imported


@pytest.mark.parametrize("how", ["environment", "argument", "unlocked"])
def test_the_scripts_of_2023(tmp_path: Path, openssl_keys: Path, how: str) -> None:
    shutil.copy(openssl_keys / ("unlocked.pem" if how == "unlocked" else "locked.pem"), tmp_path / "private_key.pem")
    shutil.copy(openssl_keys / "public.pem", tmp_path / "public_key.pem")
    (tmp_path / "hello_world").mkdir()
    (tmp_path / "hello_world" / "a.txt").write_text("hello")
    words = ["-i", "hello_world", "-o", "compressed_file.fpk", "-s", "signed_file.fpk", "-p", "private_key.pem"]
    words += ["--hash_size", "512"]
    if how == "environment":
        failed(script("compress_and_sign", *words, cwd=tmp_path), 4, "locked with a passphrase")
        failed(script("compress_and_sign", *words, cwd=tmp_path, PASSPHRASE="wrong"), 4, "does not open")
        ok(script("compress_and_sign", *words, cwd=tmp_path, PASSPHRASE="secret"))
    elif how == "argument":
        done = script("compress_and_sign", *words, "--passphrase", "secret", cwd=tmp_path)
        ok(done)
        assert "other users can see the passphrase" in done.stderr
    else:
        ok(script("compress_and_sign", *words, cwd=tmp_path))
    check = ["--signed_file", "signed_file.fpk", "--public_key", "public_key.pem"]
    assert "SHA-512" in ok(script("verify_signed", *check, cwd=tmp_path))
    content = (tmp_path / "signed_file.fpk").read_bytes()
    assert content.startswith((tmp_path / "compressed_file.fpk").read_bytes() + SEPARATOR)
    (tmp_path / "signed_file.fpk").write_bytes(b"x" + content)
    failed(script("verify_signed", *check, cwd=tmp_path), 9, "is not what public_key.pem signed")
    failed(script("verify_signed", "-s", "none", "-p", "public_key.pem", cwd=tmp_path), 3, "There is no file")


def test_leaving_the_prompt_of_the_old_script_is_no_fault(tmp_path: Path, openssl_keys: Path) -> None:
    shutil.copy(openssl_keys / "locked.pem", tmp_path / "k.pem")
    (tmp_path / "a").write_text("a")
    ours, theirs = os.openpty()
    code = "from pantry.cli._legacy import compress_and_sign; compress_and_sign()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "-i", "a", "-o", "c", "-s", "s", "-p", "k.pem"],
        cwd=tmp_path,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # without a terminal of its own, it asks on standard input
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        asked = b"Passphrase of k.pem: "
        assert process.stderr
        try:
            assert process.stderr.read(len(asked)) == asked
            os.write(ours, b"\x04")
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    os.close(ours)
    os.close(theirs)
    assert b"Traceback" not in said
    assert process.returncode == 130


def test_the_old_script_takes_any_bytes_as_passphrase_and_name(tmp_path: Path, openssl_keys: Path) -> None:
    shutil.copy(openssl_keys / "locked.pem", tmp_path / "k.pem")
    (tmp_path / "a").write_text("a")
    words = ["-i", "a", "-s", "s", "-p", "k.pem", "-o"]
    failed(script("compress_and_sign", *words, "c", cwd=tmp_path, PASSPHRASE="\udcff"), 4, "does not open")
    failed(script("compress_and_sign", *words, "c", "--passphrase", "\udcff", cwd=tmp_path), 4, "does not open")
    ok(script("compress_and_sign", *words, "\udcff", cwd=tmp_path, PASSPHRASE="secret"))
    (tmp_path / "loop").symlink_to("loop")
    failed(script("compress_and_sign", *words, "loop", cwd=tmp_path, PASSPHRASE="secret"), 12, "symbolic links")


def test_a_link_to_itself_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    failed(pantry("pack", "loop", cwd=tmp_path), 3, "There is no")
    failed(pantry("init", "loop", cwd=tmp_path), 12, "")


def test_the_scripts_are_installed_under_their_names() -> None:
    import tomllib

    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["compress-and-sign-fpk"] == "pantry.cli._legacy:compress_and_sign"
    assert scripts["verify-signed-fpk"] == "pantry.cli._legacy:verify_signed"
