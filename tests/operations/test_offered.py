"""One name from search to removal: what is on offer, and a model by the name it was pulled by."""

from __future__ import annotations

from pathlib import Path

import pytest

from pantry.core.errors import (
    BadFileError,
    DownloadError,
    ModelNotFoundError,
    NotFoundError,
    PolicyRefusedError,
    UsageError,
)
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.install.installed import installed_model, model_named, model_path
from pantry.install.resolve import offered
from pantry.operations.models import remove_model
from pantry.operations.publish import init_repository, publish_files
from pantry.operations.pull import pull
from pantry.operations.repositories import add_repository
from pantry.repository.configured import read_root
from tests.repository.flatpacks import Published, make_flatpack, trust_signer
from tests.repository.servers import serving


@pytest.fixture
def lab(paths: Paths, tmp_path: Path) -> Published:
    """A repository in a folder, in use, with two versions of ada/fox."""
    made = Published(tmp_path / "lab").create()
    work = tmp_path / "work"
    made.publish(make_flatpack(work, "ada/fox"), make_flatpack(work, "ada/fox", "1.1.0"))
    trust_signer(paths)
    add_repository(paths, "lab", str(made.folder), made.folder / "root.json")
    return made


@pytest.mark.usefixtures("lab")
def test_a_model_is_known_by_the_name_it_was_pulled_by(paths: Paths) -> None:
    with pytest.raises(ModelNotFoundError):
        installed_model(paths, "ada/fox")
    pull(paths, "ada/fox")
    pull(paths, "ada/fox:1.0.0")
    assert installed_model(paths, "ada/fox").name == ModelName("ada-fox")
    assert model_path(paths, "ada/fox:1.0.0") == model_path(paths, "ada-fox:1.0.0")
    remove_model(paths, "ada/fox")
    with pytest.raises(ModelNotFoundError):
        installed_model(paths, "ada-fox")
    assert installed_model(paths, "ada/fox:1.0.0").name.tag == "1.0.0"


@pytest.mark.parametrize("text", ["a/b/c", "/etc/passwd", "../fox", "./fox", "a/", "/a", "hf://a/b"])
def test_paths_and_addresses_are_no_names(text: str) -> None:
    with pytest.raises(UsageError, match="not a model name"):
        model_named(text)


def test_the_name_it_has_here_is_told_where_only_that_one_will_do() -> None:
    with pytest.raises(UsageError) as caught:
        ModelName.parse("ada/fox:1.0.0")
    assert caught.value.hint == "What was pulled as 'ada/fox' is called 'ada-fox' here."


def test_offered_is_what_a_pull_would_choose_from(paths: Paths, lab: Published, tmp_path: Path) -> None:
    """A later repository with the name offers nothing."""
    other = Published(tmp_path / "other").create()
    other.publish(make_flatpack(tmp_path / "again", "ada/fox", "9.0.0"))
    add_repository(paths, "other", str(other.folder), other.folder / "root.json")
    assert [(each.repository, each.version) for each in offered(paths, "ada/fox")] == [
        ("lab", "1.1.0"),
        ("lab", "1.0.0"),
    ]
    assert [each.version for each in offered(paths, "ada/fox:1.0.0")] == ["1.0.0"]
    assert offered(paths, "ada/owl") == []
    assert offered(paths, "./x.fpk") == []
    assert offered(paths, "no name!") == []


def test_what_every_user_would_refuse_is_not_published(paths: Paths, tmp_path: Path) -> None:
    """A file called like a pickle that is none."""
    folder = tmp_path / "served"
    init_repository(paths, folder, [], lambda _: "")
    bad = make_flatpack(tmp_path / "work", "bad", extra={"extra.bin": b"noise, no pickle"})
    before = sorted(folder.rglob("*"))
    with pytest.raises(PolicyRefusedError, match=r"extra\.bin of bad-1\.0\.0\.fpk is refused: not .*\(\w"):
        publish_files(paths, folder, [make_flatpack(tmp_path / "work", "good"), bad], [], lambda _: "")
    assert sorted(folder.rglob("*")) == before
    assert list(paths.partial.iterdir()) == []


def test_a_first_look_that_fails_says_what_address_is_wanted(paths: Paths, tmp_path: Path) -> None:
    made = Published(tmp_path / "lab").create()
    root = made.folder / "root.json"
    with serving(made.folder) as server, pytest.raises(DownloadError, match="answered 404") as caught:
        add_repository(paths, "lab", f"{server.url}/elsewhere", root)
    assert "metadata/ and targets/" in str(caught.value.hint)
    with pytest.raises(NotFoundError, match="is not there") as forgot:
        add_repository(paths, "lab", "models.lab.example", root)
    assert "https://" in (forgot.value.hint or "")
    with pytest.raises(NotFoundError, match="no file") as address:
        read_root(Path("https://models.lab.example/root.json"))
    assert "a way you trust" in (address.value.hint or "")
    with pytest.raises(BadFileError):
        add_repository(paths, "lab", str(made.folder), make_flatpack(tmp_path / "work"))
