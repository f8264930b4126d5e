"""The model that ships, a signed flatpack: unboxed at first use by the path of every other, once, and only if right."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from examples.starter.pack import pack_starter, ship
from pantry.core.errors import ModelNotFoundError, PolicyRefusedError, VerificationError
from pantry.core.paths import Paths
from pantry.flatpack.archive.archive import Reader
from pantry.flatpack.signing.keys import load_public_key, new_key
from pantry.flatpack.signing.signature import judge, sign
from pantry.flatpack.signing.trust import TrustFile, write_trust_file
from pantry.install import starter
from pantry.install.installed import installed_model, installed_models, model_path
from pantry.operations.models import remove_model
from pantry.operations.packages import installed_packages, package_files
from pantry.starter import CARD, FLATPACK, NAME, SIGNER, STARTER
from pantry.store.models import Store
from pantry.store.packages import Package
from tests.repository.flatpacks import make_flatpack
from tests.starter_model import FOLDER, starter_gguf


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of what ships, in use instead of it."""
    folder = tmp_path / "shipped"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(starter, "files", lambda package: folder)
    return folder


def test_first_use_unboxes_a_signed_package(paths: Paths) -> None:
    model = installed_model(paths, "starter")
    assert model.facts["signed_by"] == "Pantry"
    assert model.facts["licence"] == "CC0-1.0"
    (package,) = installed_packages(paths)
    assert (package.name, package.signer, package.source) == (NAME, "Pantry", "shipped with Pantry")
    assert {file.path for file in package_files(paths, NAME)[1]} >= {"starter.gguf", "CARD.md", "DATASET.md"}
    assert model_path(paths, "starter").read_bytes() == starter_gguf().read_bytes()


def test_what_is_installed_is_not_looked_at_again(paths: Paths, shipped: Path) -> None:
    installed_model(paths, "starter")
    (shipped / FLATPACK).unlink()
    assert installed_model(paths, "starter").name == STARTER


def test_many_first_uses_at_once_are_one_unboxing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    unboxed: list[Path] = []
    install = starter.install_flatpack

    def counted(paths: Paths, store: Store, file: Path, *rest: Any) -> Package:
        unboxed.append(file)
        return install(paths, store, file, *rest)

    monkeypatch.setattr(starter, "install_flatpack", counted)
    with ThreadPoolExecutor(6) as threads:
        models = list(threads.map(lambda _: installed_model(paths, "starter"), range(6)))
    assert len({(model.digest, model.added_at) for model in models}) == 1
    assert len(installed_packages(paths)) == len(unboxed) == 1
    assert not list(paths.partial.iterdir())


def test_removed_it_leaves_nothing_and_comes_again_when_it_is_named(paths: Paths) -> None:
    installed_model(paths, "starter")
    remove_model(paths, "starter")
    assert not installed_models(paths)
    assert not installed_packages(paths)
    assert not [file for file in paths.blobs.rglob("*") if file.is_file()]
    assert installed_model(paths, "starter").name == STARTER


def test_a_changed_flatpack_is_refused_and_leaves_nothing(paths: Paths, shipped: Path) -> None:
    content = bytearray((shipped / FLATPACK).read_bytes())
    content[len(content) // 2] ^= 1
    (shipped / FLATPACK).write_bytes(content)
    with pytest.raises(VerificationError):
        installed_model(paths, "starter")
    assert not installed_packages(paths)
    assert not list(paths.partial.iterdir())


def test_another_signer_is_refused_even_where_the_user_asks_for_no_signature(paths: Paths, shipped: Path) -> None:
    write_trust_file(paths, TrustFile(mode="off"))
    sign(shipped / FLATPACK, [new_key("p256")])
    with pytest.raises(VerificationError, match="trust"):
        installed_model(paths, "starter")


def test_the_shipped_key_is_trusted_for_no_other_name(tmp_path: Path, shipped: Path) -> None:
    key = new_key("p256")
    (shipped / SIGNER).write_bytes(key.public.pem)
    with Reader(make_flatpack(tmp_path, "fox", key=key)) as reader:
        assert judge(reader, starter.starter_trust()).state == "untrusted"


def test_a_first_use_does_not_wait_for_the_catalogue(paths: Paths) -> None:
    installed_model(paths, "starter")
    assert not list(paths.data.glob("catalogue*"))


def test_the_policy_rules_over_it_as_over_any_flatpack(paths: Paths) -> None:
    paths.config.mkdir(parents=True)
    (paths.config / "policy.toml").write_text('mode = "enforce"\nrefused_licences = ["CC0-1.0"]\n')
    with pytest.raises(PolicyRefusedError):
        installed_model(paths, "starter")
    assert not installed_packages(paths)


@pytest.mark.parametrize("rule", ['downloads = "refuse"', 'max_download = "1MB"'])
def test_rules_about_downloads_do_not_keep_out_what_is_here(paths: Paths, rule: str) -> None:
    paths.config.mkdir(parents=True)
    (paths.config / "policy.toml").write_text(f'mode = "enforce"\n{rule}\n')
    assert installed_model(paths, "starter").name == STARTER


def test_a_package_without_it_says_so(paths: Paths, shipped: Path) -> None:
    (shipped / FLATPACK).unlink()
    with pytest.raises(ModelNotFoundError, match="no starter model"):
        installed_model(paths, "starter")


def test_packing_is_repeatable_and_gives_what_ships(tmp_path: Path) -> None:
    one, two = (pack_starter(starter_gguf(), FOLDER / CARD, tmp_path / name) for name in ("one.fpk", "two.fpk"))
    assert one.path.read_bytes() == two.path.read_bytes()
    with Reader(FOLDER / FLATPACK) as reader:
        assert reader.statement.contents == one.contents


def test_a_release_is_signed_anew_with_its_own_key(paths: Paths, shipped: Path) -> None:
    key = new_key("p256")
    ship(None, key, shipped)
    assert load_public_key((shipped / SIGNER).read_bytes(), SIGNER).id == key.public.id
    assert installed_model(paths, "starter").facts["signed_by"] == "Pantry"
