"""Models in the caches of other runners: found as those runners lay them out, taken in without copying."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from pantry.core.paths import Paths
from pantry.install.other_runners import Found, add_found, find_models
from pantry.store.models import Store
from tests.repository.flatpacks import gguf


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A home folder with one model of each runner."""
    home = tmp_path / "user"
    _hugging_face(home, "org/Fox-GGUF", "fox-q8_0.gguf", gguf("hf"))
    _ollama(home, "owl", "1b", gguf("ollama"))
    file = home / ".lmstudio" / "models" / "org" / "bat" / "Bat-Q4_K_M.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(gguf("lm studio"))
    return home


def _hugging_face(home: Path, repo: str, name: str, content: bytes) -> None:
    cache = home / ".cache" / "huggingface" / "hub" / f"models--{repo.replace('/', '--')}"
    blob = cache / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir(parents=True)
    blob.write_bytes(content)
    snapshot = cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / name).symlink_to(f"../../blobs/{blob.name}")


def _ollama(home: Path, name: str, tag: str, content: bytes) -> None:
    models = home / ".ollama" / "models"
    digest = hashlib.sha256(content).hexdigest()
    (models / "blobs").mkdir(parents=True)
    (models / "blobs" / f"sha256-{digest}").write_bytes(content)
    manifest = models / "manifests" / "registry.ollama.ai" / "library" / name / tag
    manifest.parent.mkdir(parents=True)
    layers = [
        {"mediaType": "application/vnd.ollama.image.license", "digest": f"sha256:{'0' * 64}", "size": 1},
        {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(content)},
    ]
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))


def find(home: Path) -> dict[str, Found]:
    return {each.runner: each for each in find_models({"HOME": str(home)})}


def test_models_of_every_runner_are_found(machine: Path) -> None:
    found = find(machine)
    assert {runner: str(each.name) for runner, each in found.items()} == {
        "huggingface": "fox-q8_0", "ollama": "owl:1b", "lmstudio": "bat-q4_k_m",
    }  # fmt: skip
    assert found["ollama"].unchanging
    assert found["huggingface"].unchanging
    assert not found["lmstudio"].unchanging


def test_finding_changes_nothing(machine: Path, paths: Paths) -> None:
    before = sorted(machine.rglob("*"))
    find(machine)
    assert sorted(machine.rglob("*")) == before
    assert not paths.data.exists()


def test_files_that_never_change_are_linked_the_others_are_not(machine: Path, paths: Paths) -> None:
    found = find(machine)
    outcomes = {each.found.runner: each for each in add_found(paths, list(found.values()))}
    assert {runner: each.error for runner, each in outcomes.items()} == dict.fromkeys(found)
    with Store.open(paths) as store:
        for runner, each in found.items():
            path = store.verified_file(store.get(each.name))
            assert path.samefile(each.file) is (runner != "lmstudio")
            assert path.read_bytes() == each.file.read_bytes()


def test_other_runner_deletes_its_model_and_ours_stays(machine: Path, paths: Paths) -> None:
    found = find(machine)["ollama"]
    list(add_found(paths, [found]))
    content = found.file.read_bytes()
    found.file.unlink()
    with Store.open(paths) as store:
        assert store.verified_file(store.get(found.name)).read_bytes() == content


def test_our_removal_leaves_the_other_runners_file(machine: Path, paths: Paths) -> None:
    found = find(machine)["ollama"]
    list(add_found(paths, [found]))
    with Store.open(paths) as store:
        store.remove(found.name)
    assert found.file.exists()


def test_damaged_file_is_told_and_the_others_come_in(machine: Path, paths: Paths) -> None:
    found = find(machine)
    found["ollama"].file.write_bytes(b"GGUF but no more")
    outcomes = {each.found.runner: each for each in add_found(paths, list(found.values()))}
    assert outcomes["ollama"].error is not None
    assert outcomes["huggingface"].error is None


@pytest.mark.parametrize(
    "manifest",
    [b"", b"[]", b'{"layers": 3}', b'{"layers": [{"mediaType": "application/vnd.ollama.image.model"}]}',
     b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../../etc/passwd"}]}'],
)  # fmt: skip
def test_strange_manifests_are_passed_over(machine: Path, manifest: bytes) -> None:
    next((machine / ".ollama").rglob("1b")).write_bytes(manifest)
    assert "ollama" not in find(machine)


def test_variables_of_the_runners_are_followed(machine: Path, tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path / "nobody"),
        "OLLAMA_MODELS": str(machine / ".ollama" / "models"),
        "HF_HOME": str(machine / ".cache" / "huggingface"),
    }
    assert [each.runner for each in find_models(environment)] == ["huggingface", "ollama"]


@pytest.mark.parametrize("manifest", ["[" * 100_000, "{" * 5_000, '{"layers": ' + "[" * 5_000 + "]" * 5_000 + "}", "1"])
def test_manifest_that_is_none_is_passed_over(machine: Path, manifest: str) -> None:
    next((machine / ".ollama" / "models" / "manifests").rglob("1b")).write_text(manifest)
    assert set(find(machine)) == {"huggingface", "lmstudio"}
