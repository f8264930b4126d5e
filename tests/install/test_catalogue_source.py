"""Names that no repository offers: taken from where the catalogue says, or refused with the nearest name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.core.errors import DownloadError, NotFoundError, UsageError, VerificationError
from pantry.core.paths import Paths
from pantry.operations.pull import Options, pull
from pantry.operations.repositories import add_repository
from tests.install.test_huggingface import COMMIT, REPO, hub, quantisations
from tests.repository.flatpacks import Published, gguf, make_flatpack, trust_signer
from tests.repository.servers import FileServer, serving

__all__ = ["hub"]

ENTRY = """[[model]]
id = "fox-1b"
name = "Fox 1B"
family = "fox"
sources = ["background"]
checked = "2026-11-21"
"""


def catalogue(paths: Paths, more: str) -> None:
    folder = paths.config / "catalogue"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.toml").write_text(ENTRY + more)


def file_entry(content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    return f"""[[model.files]]
repo = "{REPO}"
file = "Fox-1B-Q8_0.gguf"
sha256 = "{digest}"
source = "background"
"""


@pytest.fixture
def lab(paths: Paths, tmp_path: Path) -> Iterator[FileServer]:
    """A repository in use that offers another model."""
    made = Published(tmp_path / "lab").create()
    made.publish(make_flatpack(tmp_path / "work", "owl"))
    with serving(made.folder) as server:
        trust_signer(paths)
        add_repository(paths, "lab", server.url, made.folder / "root.json")
        yield server


def test_a_name_of_the_catalogue_comes_from_the_hub_and_it_is_said(
    paths: Paths, hub: FileServer, lab: FileServer
) -> None:
    quantisations(hub)
    catalogue(paths, f'gguf_repos = ["{REPO}"]\n')
    steps: list[str] = []
    result = pull(paths, "fox-1b", say=lambda step, words: steps.append(f"{step}: {words}"))
    assert str(result.model) == "fox-1b"
    assert result.package.source == f"hf://{REPO}@{COMMIT}"
    assert f"resolving: no repository offers fox-1b; the catalogue's fox-1b is at hf://{REPO}" in steps
    assert pull(paths, "fox-1b").up_to_date
    assert str(pull(paths, "fox-1b:q8_0").model) == "fox-1b:q8_0"


def test_the_digest_that_the_catalogue_knows_must_be_met(paths: Paths, hub: FileServer) -> None:
    quantisations(hub, small=10)
    catalogue(paths, file_entry(gguf("Q8_0")))
    assert str(pull(paths, "fox-1b").model) == "fox-1b"
    catalogue(paths, file_entry(b"as it was before"))
    with pytest.raises(VerificationError, match="another file than the catalogue knows"):
        pull(paths, "fox-1b", Options())


def test_a_repository_that_has_the_name_comes_first(paths: Paths, hub: FileServer, lab: FileServer) -> None:
    catalogue(paths, "")
    (paths.config / "catalogue" / "own.toml").write_text(ENTRY.replace("fox-1b", "owl") + f'gguf_repos = ["{REPO}"]\n')
    assert pull(paths, "owl").package.source.startswith("lab")
    with pytest.raises(NotFoundError, match="no owl:9"):
        pull(paths, "owl:9")
    assert hub.requests == []


def test_a_repository_that_is_away_does_not_send_a_name_elsewhere(
    paths: Paths, hub: FileServer, tmp_path: Path
) -> None:
    """Else whoever can cut the line to a lab decides where its users' models come from."""
    made = Published(tmp_path / "lab").create()
    with serving(made.folder) as server:
        add_repository(paths, "lab", server.url, made.folder / "root.json")
    quantisations(hub)
    catalogue(paths, f'gguf_repos = ["{REPO}"]\n')
    with pytest.raises(DownloadError):
        pull(paths, "fox-1b")
    assert hub.requests == []


def test_a_repository_that_is_away_keeps_those_after_it_from_a_name_and_it_is_said(
    paths: Paths, lab: FileServer, tmp_path: Path
) -> None:
    made = Published(tmp_path / "away").create()
    with serving(made.folder) as server:
        add_repository(paths, "away", server.url, made.folder / "root.json")
    file = paths.config / "repositories.toml"
    first, second = (f"[[repository]]{table}" for table in file.read_text().split("[[repository]]")[1:])
    file.write_text(f"{second}\n{first}")
    with pytest.raises(DownloadError, match="'away'") as caught:
        pull(paths, "owl")
    assert "owl may be a name of away" in (caught.value.hint or "")
    assert "--from" in (caught.value.hint or "")
    assert pull(paths, "owl", Options(repository="lab")).package.name == "owl"


def test_one_named_repository_is_the_only_place(paths: Paths, hub: FileServer, lab: FileServer) -> None:
    quantisations(hub)
    catalogue(paths, f'gguf_repos = ["{REPO}"]\n')
    with pytest.raises(NotFoundError, match="does not offer"):
        pull(paths, "fox-1b", Options(repository="lab"))
    assert hub.requests == []


def test_what_nobody_knows_names_the_nearest(paths: Paths, hub: FileServer, lab: FileServer) -> None:
    catalogue(paths, "")
    with pytest.raises(NotFoundError) as caught:
        pull(paths, "owk")
    assert caught.value.hint == "Did you mean 'owl'?"
    with pytest.raises(NotFoundError) as caught:
        pull(paths, "fox-1c")
    assert caught.value.hint == "Did you mean 'fox-1b'?"
    with pytest.raises(NotFoundError, match="names no place to get it from"):
        pull(paths, "fox-1b")
    catalogue(paths, "remote = true\n")
    with pytest.raises(NotFoundError, match="runs at a provider"):
        pull(paths, "fox-1b")


def test_offline_asks_nobody(paths: Paths, hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue(paths, f'gguf_repos = ["{REPO}"]\n')
    monkeypatch.setenv("PANTRY_OFFLINE", "1")
    with pytest.raises(UsageError, match="offline"):
        pull(paths, "fox-1b")
    assert hub.requests == []
