"""Models of the Hugging Face hub, from a small hub on loopback that answers as the real one documents."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pantry.core.errors import (
    BadFileError,
    DownloadError,
    NotFoundError,
    PolicyRefusedError,
    UnauthorisedError,
    UsageError,
    VerificationError,
)
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.flatpack.signing.signature import sign
from pantry.operations.deltas import DeltaFacts, make_delta
from pantry.operations.models import remove_model
from pantry.operations.pull import Options, pull
from pantry.repository.refs import HubRef, parse_ref
from pantry.store.models import Store
from pantry.store.packages import Packages
from tests.repository.flatpacks import SIGNER, gguf, trust_signer
from tests.repository.servers import Faults, FileServer, serving

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "org/Fox-1B-GGUF"


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    root = tmp_path / "hub"
    root.mkdir()
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with serving(root) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def offer(hub: FileServer, files: dict[str, bytes], repo: str = REPO, *, card: Any = None, small: int = 1000) -> None:
    """Put a model on the hub: its files, and what the API says of them. Files above `small` bytes are in LFS."""
    siblings = []
    for path, content in files.items():
        file = hub.root / repo / "resolve" / COMMIT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        row: dict[str, Any] = {"rfilename": path, "size": len(content), "blobId": git}
        if len(content) > small:
            row["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
        siblings.append(row)
    info = {"id": repo, "modelId": repo, "sha": COMMIT, "private": False, "tags": ["gguf"], "siblings": siblings}
    if card is not None:
        info["cardData"] = card
    answer = (200, {"Content-Type": "application/json"}, json.dumps(info).encode())
    hub.answers[f"/api/models/{repo}"] = answer
    hub.answers[f"/api/models/{repo}/revision/main"] = answer
    hub.answers[f"/api/models/{repo}/revision/{COMMIT}"] = answer


def quantisations(hub: FileServer, **given: Any) -> None:
    files = {f"Fox-1B-{name}.gguf": gguf(name) for name in ("Q2_K", "Q4_K_M", "Q8_0", "BF16")}
    offer(hub, {**files, "README.md": b"# Fox", "mmproj-Fox-F16.gguf": gguf("mmproj")}, **given)


def test_quantisation_is_picked_and_the_commit_recorded(paths: Paths, hub: FileServer) -> None:
    quantisations(hub, card={"license": "apache-2.0", "base_model": "org/Fox-1B"})
    steps: dict[str, str] = {}
    result = pull(paths, f"hf://{REPO}:q4_k_m", say=lambda step, words: steps.update({step: words}))
    assert result.model == ModelName("fox-1b", "q4_k_m")
    assert "commercial use allowed" in steps["licence"]
    assert "not signed" in steps["signature"]
    with Store.open(paths) as store:
        model = store.get(result.model)
        assert store.verified_file(model).read_bytes() == gguf("Q4_K_M")
        assert model.facts["revision"] == COMMIT
        assert model.facts["licence"] == "apache-2.0"
        assert model.facts["base"] == ["org/Fox-1B"]
        assert result.package.source == f"hf://{REPO}@{COMMIT}"
    fetched = [path for path in hub.paths() if "/resolve/" in path]
    assert fetched == [f"/{REPO}/resolve/{COMMIT}/Fox-1B-Q4_K_M.gguf"]


def test_second_pull_fetches_nothing(paths: Paths, hub: FileServer) -> None:
    quantisations(hub)
    pull(paths, f"hf://{REPO}:q8_0")
    hub.requests.clear()
    assert pull(paths, f"hf://{REPO}:q8_0").up_to_date
    assert not [path for path in hub.paths() if "/resolve/" in path]


def test_small_good_quantisation_is_the_default(paths: Paths, hub: FileServer) -> None:
    quantisations(hub)
    assert pull(paths, f"hf://{REPO}").model == ModelName("fox-1b", "q4_k_m")
    assert pull(paths, f"hf://{REPO}@{COMMIT}/Fox-1B-Q2_K.gguf").model == ModelName("fox-1b-q2_k")


def test_unknown_quantisation_and_file_name_the_nearest(paths: Paths, hub: FileServer) -> None:
    quantisations(hub)
    with pytest.raises(NotFoundError, match="has no q4_k_l") as caught:
        pull(paths, f"hf://{REPO}:q4_k_l")
    assert caught.value.hint == "Did you mean 'q4_k_m'?"
    with pytest.raises(NotFoundError, match="no file"):
        pull(paths, f"hf://{REPO}/none.gguf")


def test_interrupted_download_is_continued(paths: Paths, hub: FileServer) -> None:
    content = gguf("big") + os.urandom(2_000_000)
    offer(hub, {"big-q8_0.gguf": content})
    hub.faults = Faults(cut_at=1_000_000, cuts=1, only="/resolve/")
    result = pull(paths, f"hf://{REPO}")
    with Store.open(paths) as store:
        assert result.model
        assert store.verified_file(store.get(result.model)).read_bytes() == content
    assert hub.requests[-1][1] == f"bytes=1000000-{len(content) - 1}"


def test_file_that_is_not_what_the_hub_says(paths: Paths, hub: FileServer) -> None:
    quantisations(hub)
    hub.faults = Faults(garbage=True, only="/resolve/")
    with pytest.raises(VerificationError):
        pull(paths, f"hf://{REPO}:q8_0")


def test_safetensors_come_with_their_small_files_and_without_pickles_and_code(paths: Paths, hub: FileServer) -> None:
    header = b'{"w":{"dtype":"F32","shape":[400],"data_offsets":[0,1600]}}'
    tensors = len(header).to_bytes(8, "little") + header + bytes(1600)
    files = {
        "model.safetensors": tensors,
        "pytorch_model.bin": pickle.dumps([1] * 1000),
        "config.json": b"{}",
        "tokenizer.json": b'{"model": {}}',
        "modeling_fox.py": b"import os",
    }
    offer(hub, files, "org/Fox-1B")
    result = pull(paths, "hf://org/Fox-1B")
    assert result.model is None
    with Store.open(paths) as store:
        names = [file.path for file in Packages(store).files(result.package)]
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    assert pull(paths, "hf://org/Fox-1B").up_to_date


def test_changed_small_file_is_found(paths: Paths, hub: FileServer) -> None:
    header = b'{"w":{"dtype":"F32","shape":[400],"data_offsets":[0,1600]}}'
    tensors = len(header).to_bytes(8, "little") + header + bytes(1600)
    offer(hub, {"model.safetensors": tensors, "config.json": b'{"a": 1}'}, "org/Fox-1B")
    (hub.root / "org/Fox-1B/resolve" / COMMIT / "config.json").write_bytes(b'{"a": 2}')
    with pytest.raises(VerificationError, match=r"config\.json is not what the hub says"):
        pull(paths, "hf://org/Fox-1B")


def test_pickles_are_refused_unless_asked_for_and_never_run(paths: Paths, hub: FileServer, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {mark} #{'x' * 2000}",)

    offer(hub, {"pytorch_model.bin": pickle.dumps(Evil()), "config.json": b"{}"}, "org/Old")
    with pytest.raises(PolicyRefusedError, match="only as pickles"):
        pull(paths, "hf://org/Old")
    assert not [path for path in hub.paths() if "/resolve/" in path]
    with pytest.raises(PolicyRefusedError, match=r"pytorch_model\.bin"):
        pull(paths, "hf://org/Old", Options(pickle=True))
    assert not mark.exists()


def test_parts_that_are_no_parts_are_refused(paths: Paths, hub: FileServer) -> None:
    offer(hub, {f"fox-q8_0-0000{number}-of-00002.gguf": gguf(str(number)) for number in (1, 2)})
    with pytest.raises(BadFileError, match="Part 1 of 2"):
        pull(paths, f"hf://{REPO}")
    with Store.open(paths) as store:
        assert Packages(store).list() == []


def test_unknown_model_gated_model_and_revision(paths: Paths, hub: FileServer) -> None:
    def refuse(path: str, status: int, code: str) -> None:
        hub.answers[path] = (status, {"X-Error-Code": code, "Content-Type": "application/json"}, b"{}")

    refuse("/api/models/org/none", 404, "RepoNotFound")
    with pytest.raises(NotFoundError, match="no model 'org/none'"):
        pull(paths, "hf://org/none")
    refuse("/api/models/org/gated", 403, "GatedRepo")
    with pytest.raises(UnauthorisedError, match="accepted its terms"):
        pull(paths, "hf://org/gated")
    quantisations(hub)
    refuse(f"/api/models/{REPO}/revision/v9", 404, "RevisionNotFound")
    with pytest.raises(NotFoundError, match="no revision 'v9'"):
        pull(paths, f"hf://{REPO}@v9")


def test_token_goes_to_the_hub_and_nowhere_else(
    paths: Paths, hub: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    quantisations(hub)
    with serving(hub.root) as storage:
        hub.faults = Faults(redirect=f"{storage.url}/{REPO}/resolve/{COMMIT}/Fox-1B-Q8_0.gguf", only="/resolve/")
        pull(paths, f"hf://{REPO}:q8_0")
        assert hub.authorised[-1] == "Bearer hf_secret"
        assert storage.authorised == [None]


def test_hub_that_does_not_answer(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DownloadError, match="no proper answer"):
        pull(paths, f"hf://{REPO}")
    monkeypatch.setenv("PANTRY_OFFLINE", "1")
    with pytest.raises(UsageError, match="offline"):
        pull(paths, f"hf://{REPO}")


def test_file_in_the_hubs_cache_is_used(paths: Paths, hub: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    quantisations(hub)
    content = gguf("Q8_0")
    cache = Path(os.environ["HF_HOME"]) / "hub" / f"models--{REPO.replace('/', '--')}"
    snapshot = cache / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "Fox-1B-Q8_0.gguf").write_bytes(content)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache.parent))  # it reads HF_HOME only when it is imported
    pull(paths, f"hf://{REPO}:q8_0")
    assert not [path for path in hub.paths() if "/resolve/" in path]


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("hf://a/b", HubRef("a/b")),
        ("hf.co/a/b:Q4_K_M", HubRef("a/b", None, None, "Q4_K_M")),
        ("hf://a/b@main", HubRef("a/b", "main")),
        ("hf://a/b@refs%2Fpr%2F1/x/y.gguf", HubRef("a/b", "refs/pr/1", "x/y.gguf")),
    ],
)
def test_references_to_the_hub(text: str, ref: HubRef) -> None:
    assert parse_ref(text) == ref


@pytest.mark.parametrize(
    "text",
    ["hf://a", "hf://a/", "hf://../b", "hf://a/b/../c", "hf://a/b@", "hf://a/b@../x", "hf://a/b:q 4", "hf://a b/c"],
)
def test_what_is_no_reference_to_the_hub(text: str) -> None:
    with pytest.raises(UsageError):
        parse_ref(text)


def test_a_delta_on_a_model_of_the_hub_fetches_that_very_file(paths: Paths, hub: FileServer, tmp_path: Path) -> None:
    """The delta says repository, commit and file of its base by itself; the hub's licence is joined."""
    quantisations(hub, card={"license": "apache-2.0"})
    trust_signer(paths)
    base = pull(paths, f"hf://{REPO}:bf16").model
    (tmp_path / "tuned.gguf").write_bytes(gguf("tuned"))
    facts = DeltaFacts(name="tuned", licence="CC-BY-4.0")
    made = make_delta(paths, str(base), str(tmp_path / "tuned.gguf"), tmp_path / "tuned.fpk", facts=facts)
    assert made.report.manifest.delta is not None
    assert made.report.manifest.delta.bases[0].repository == f"hf://{REPO}@{COMMIT}/Fox-1B-BF16.gguf"
    remove_model(paths, str(base))
    quantisations(hub, card={"license": "cc-by-nc-4.0"})
    result = pull(paths, str(sign(made.path, [SIGNER])))
    with Store.open(paths) as store:
        model = store.get(ModelName("tuned"))
        assert store.verified_file(model).read_bytes() == gguf("tuned")
        assert model.facts["licence"] == "CC-BY-NC-4.0 AND Apache-2.0 AND CC-BY-4.0"
    assert result.package.signer == "Ada"
