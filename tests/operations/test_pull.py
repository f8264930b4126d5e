"""Pulling, from a repository on a real server to a model in the store: steps, attacks, faults, mending."""

from __future__ import annotations

import datetime
import hashlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pantry.core.errors import (
    ConflictError,
    DownloadError,
    NotFoundError,
    PolicyRefusedError,
    StorageError,
    UsageError,
    VerificationError,
)
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.flatpack.signing.keys import new_key
from pantry.operations.packages import collect_garbage, verify_everything
from pantry.operations.pull import Options, Pulled, pull
from pantry.operations.repositories import add_repository, list_repositories, refresh_repositories, search_entries
from pantry.repository.index import newest
from pantry.repository.publish import yank
from pantry.store.models import Store
from pantry.store.packages import Packages
from tests.repository.flatpacks import SIGNER, Published, gguf, make_flatpack, trust_signer
from tests.repository.servers import Faults, FileServer, serving

BIG = gguf("big") + os.urandom(3_000_000)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def lab(tmp_path: Path, work: Path) -> Published:
    made = Published(tmp_path / "lab").create()
    made.publish(make_flatpack(work), make_flatpack(work, "big", content=BIG))
    return made


@pytest.fixture
def server(lab: Published) -> Iterator[FileServer]:
    with serving(lab.folder) as running:
        yield running


@pytest.fixture
def added(paths: Paths, lab: Published, server: FileServer) -> Paths:
    """A home that knows the repository and trusts its signer."""
    trust_signer(paths)
    add_repository(paths, "lab", server.url, lab.folder / "root.json")
    return paths


def models(paths: Paths) -> list[str]:
    with Store.open(paths) as store:
        return [str(model.name) for model in store.list()]


def content(paths: Paths, name: str) -> bytes:
    with Store.open(paths) as store:
        return store.verified_file(store.get(ModelName.parse(name))).read_bytes()


def nothing_is_left(paths: Paths) -> bool:
    """No model, no blob, nothing half-done."""
    files = [file for folder in (paths.blobs, paths.partial) for file in folder.rglob("*") if file.is_file()]
    return models(paths) == [] and files == []


def test_pull_says_its_steps_and_installs(added: Paths) -> None:
    steps: list[tuple[str, str]] = []
    result = pull(added, "fox", say=lambda step, words: steps.append((step, words)))
    assert result.model == ModelName("fox")
    assert [step for step, _ in steps] == [
        "metadata verified", "resolving", "downloading", "digest verified", "signature", "licence", "installed",
    ]  # fmt: skip
    said = dict(steps)
    assert said["metadata verified"].startswith("lab, root version 1")
    assert "signed by Ada" in said["signature"]
    assert said["licence"] == "Apache-2.0: commercial use allowed"
    assert content(added, "fox") == gguf("fox 1.0.0")
    with Store.open(added) as store:
        facts = store.get(ModelName("fox")).facts
        assert (facts["version"], facts["licence"], facts["signed_by"]) == ("1.0.0", "Apache-2.0", "Ada")
        files = [file.path for file in Packages(store).files(result.package)]
    assert files == ["flatpack.toml", "model.gguf"]


def test_second_pull_is_up_to_date_and_fetches_nothing(added: Paths, server: FileServer) -> None:
    assert not pull(added, "fox").up_to_date
    server.requests.clear()
    assert pull(added, "fox").up_to_date
    assert not [path for path in server.paths() if "targets/" in path]


def test_newer_version_takes_the_place_of_the_old_one(added: Paths, lab: Published, work: Path) -> None:
    pull(added, "fox")
    lab.publish(make_flatpack(work, version="1.10.0"), make_flatpack(work, version="1.9.0"))
    assert pull(added, "fox").package.version == "1.10.0"
    assert content(added, "fox") == gguf("fox 1.10.0")
    assert models(added) == ["fox"]
    assert verify_everything(added) == []


def test_version_asked_for_gets_a_name_of_its_own(added: Paths, lab: Published, work: Path) -> None:
    lab.publish(make_flatpack(work, version="2.0.0"))
    assert pull(added, "fox:1.0.0").model == ModelName("fox", "1.0.0")
    assert pull(added, "fox").package.version == "2.0.0"
    assert models(added) == ["fox:1.0.0", "fox"]
    with pytest.raises(NotFoundError, match="no fox:3"):
        pull(added, "fox:3.0.0")


def test_yanked_version_is_passed_over_unless_named(added: Paths, lab: Published, work: Path) -> None:
    lab.publish(make_flatpack(work, version="2.0.0"))
    yank(lab.folder, "fox", "2.0.0", "it bites", lab.keys)
    assert pull(added, "fox").package.version == "1.0.0"
    steps: list[str] = []
    pull(added, "fox:2.0.0", say=lambda step, words: steps.append(words))
    assert any("taken back" in words and "it bites" in words for words in steps)


def test_unknown_name_names_the_nearest(added: Paths) -> None:
    with pytest.raises(NotFoundError) as caught:
        pull(added, "fux")
    assert caught.value.hint == "Did you mean 'fox'?"


def test_nothing_configured_says_what_to_do(paths: Paths) -> None:
    with pytest.raises(NotFoundError, match="No repository offers 'fox'") as caught:
        pull(paths, "fox")
    assert "pantry repo add" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "Fox!", "..", "a/b/c", "fox:..", "file:///etc/passwd", "ftp://a/b.fpk", "hf://"])
def test_what_is_no_reference_is_refused(paths: Paths, text: str) -> None:
    with pytest.raises(UsageError):
        pull(paths, text)


def test_signature_missing_though_the_hash_is_right(paths: Paths, work: Path) -> None:
    with pytest.raises(VerificationError, match="is not signed"):
        pull(paths, str(make_flatpack(work, key=None)))
    assert nothing_is_left(paths)


def test_signer_who_is_not_trusted(added: Paths, lab: Published, work: Path) -> None:
    lab.publish(make_flatpack(work, "owl", key=new_key("p256")))
    with pytest.raises(VerificationError, match="not known here"):
        pull(added, "owl")
    assert nothing_is_left(added)


def test_signer_who_is_trusted_for_other_names(added: Paths) -> None:
    trust_signer(added, pattern="owl*")
    with pytest.raises(VerificationError, match="not for 'fox'"):
        pull(added, "fox")
    assert nothing_is_left(added)


def test_revoked_key(added: Paths) -> None:
    trust_signer(added, not_after=datetime.date(2020, 1, 1))
    with pytest.raises(VerificationError, match="its trust ended"):
        pull(added, "fox")
    assert nothing_is_left(added)


def test_entry_that_promises_another_flatpack(added: Paths, lab: Published, work: Path) -> None:
    """The repository's own keys name an otter where a fox stands: the signer of the otter never said so."""
    from pantry.repository._roles import Lifetimes, Roles, Signers

    lab.publish(make_flatpack(work, "otter"))
    roles = Roles.load(lab.folder)
    targets = roles.targets.signed.targets
    targets["otter/otter-1.0.0.fpk"].unrecognized_fields["custom"]["name"] = "fox"
    targets["otter/otter-1.0.0.fpk"].unrecognized_fields["custom"]["version"] = "9.0.0"
    roles.write_online(Signers.of(lab.keys), Lifetimes())
    with pytest.raises(VerificationError, match="should be fox 9"):
        pull(added, "fox")
    assert nothing_is_left(added)


def test_swapped_target(added: Paths, lab: Published) -> None:
    fox = next((lab.folder / "targets" / "fox").glob("*.fpk"))
    content = bytearray(fox.read_bytes())
    content[-1] ^= 1
    fox.write_bytes(content)
    with pytest.raises(VerificationError):
        pull(added, "fox")
    assert nothing_is_left(added)


def test_login_page_with_status_200(added: Paths, server: FileServer) -> None:
    server.faults = Faults(html=True, only="targets/fox")
    with pytest.raises(DownloadError, match="text/html"):
        pull(added, "fox")
    assert models(added) == []


def test_damaged_model_is_found_named_and_mended_by_pull(added: Paths) -> None:
    pull(added, "fox")
    with Store.open(added) as store:
        path = store.blobs.path(store.get(ModelName("fox")).digest)
    path.chmod(0o644)
    stamp = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (damage,) = verify_everything(added)
    assert "fox" in damage.users
    result = pull(added, "fox")
    assert not result.up_to_date
    assert verify_everything(added) == []
    assert content(added, "fox") == gguf("fox 1.0.0")


def test_deleted_blob_is_mended_by_pull(added: Paths) -> None:
    pull(added, "fox")
    shutil.rmtree(added.blobs)
    assert not pull(added, "fox").up_to_date
    assert content(added, "fox") == gguf("fox 1.0.0")


def test_model_of_the_users_own_is_not_overwritten(added: Paths, tmp_path: Path) -> None:
    from pantry.install.installed import add_model

    mine = tmp_path / "fox.gguf"
    mine.write_bytes(gguf("mine"))
    with Store.open(added) as store:
        add_model(store, mine)
    with pytest.raises(ConflictError, match="came from elsewhere"):
        pull(added, "fox")
    assert content(added, "fox") == gguf("mine")
    assert pull(added, "fox", Options(name=ModelName("vulpes"))).model == ModelName("vulpes")


def test_disk_too_small(added: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from pantry.repository import _partial

    monkeypatch.setattr(_partial, "SPARE_SPACE", 1 << 60)
    with pytest.raises(StorageError, match="are needed"):
        pull(added, "fox")
    assert nothing_is_left(added)


def test_disk_full_while_unboxing_leaves_nothing_installed(added: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from pantry.flatpack.archive import _unbox

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_unbox.TreeWriter, "write", full)
    with pytest.raises(StorageError, match="disk is full"):
        pull(added, "fox")
    assert models(added) == []
    assert not list(added.partial.glob("unbox-*"))


def test_store_that_cannot_be_written(added: Paths) -> None:
    added.blobs.parent.mkdir(parents=True, exist_ok=True)
    added.partial.parent.joinpath("blobs").write_text("in the way")
    with pytest.raises(StorageError):
        pull(added, "fox")


def test_pickle_inside_a_flatpack_is_refused(paths: Paths, work: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, ("true",)

    trust_signer(paths)
    fpk = make_flatpack(work, "evil", extra={"weights.pt": pickle.dumps(Evil())})
    with pytest.raises(PolicyRefusedError, match=r"weights\.pt"):
        pull(paths, str(fpk))
    assert nothing_is_left(paths)


def test_file_of_this_machine(paths: Paths, work: Path) -> None:
    trust_signer(paths)
    fpk = make_flatpack(work, "ada/fox")
    assert pull(paths, str(fpk)).model == ModelName("ada-fox")
    assert pull(paths, str(fpk)).up_to_date
    assert fpk.exists()


def test_url_is_off_by_default(paths: Paths) -> None:
    with pytest.raises(PolicyRefusedError, match="Downloads from a URL are off"):
        pull(paths, "https://models.example/fox.fpk")


def test_url_needs_a_trusted_signer_in_every_mode(paths: Paths, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANTRY_URL_DOWNLOADS", "1")
    make_flatpack(work, key=None)
    make_flatpack(work, "owl")
    paths.config.mkdir(parents=True)
    (paths.config / "trust.toml").write_text('mode = "off"\n')
    with serving(work) as server:
        with pytest.raises(VerificationError, match="is not signed"):
            pull(paths, f"{server.url}/fox-1.0.0.fpk")
        trust_signer(paths)
        assert pull(paths, f"{server.url}/owl-1.0.0.fpk").model == ModelName("owl")


def test_policy_may_refuse_downloads_and_licences(added: Paths) -> None:
    (added.config / "policy.toml").write_text('mode = "enforce"\ndownloads = "refuse"\n')
    with pytest.raises(PolicyRefusedError, match="downloads are off"):
        pull(added, "fox")
    (added.config / "policy.toml").write_text('mode = "enforce"\nrefused_licences = ["Apache-2.0"]\n')
    with pytest.raises(PolicyRefusedError, match="is refused here"):
        pull(added, "fox")
    (added.config / "policy.toml").write_text('max_download = "1kB"\n')
    with pytest.raises(PolicyRefusedError, match="is the limit"):
        pull(added, "big")


def test_model_in_a_flatpack_is_known_by_its_digest_whatever_it_is_called(paths: Paths, work: Path) -> None:
    trust_signer(paths)
    weights = gguf("known")
    overlay = paths.config / "catalogue" / "known.toml"
    overlay.parent.mkdir(parents=True)
    overlay.write_text(
        '[family]\nid = "known"\nname = "Known"\n[[model]]\nid = "known-1b"\nname = "Known"\nlicence = "cc-by-nc-4.0"\n'
        f'sources = ["background"]\nchecked = "2026-11-21"\n[[model.files]]\nrepo = "a/b"\nfile = "known.gguf"\n'
        f'sha256 = "{hashlib.sha256(weights).hexdigest()}"\nsource = "background"\n'
    )
    (paths.config / "policy.toml").write_text('mode = "enforce"\nrequired_use = ["commercial"]\n')
    renamed = make_flatpack(work, "fox", content=weights, licence="Apache-2.0")
    with pytest.raises(PolicyRefusedError, match="commercial use is not allowed"):
        pull(paths, str(renamed))
    assert nothing_is_left(paths)
    assert pull(paths, str(make_flatpack(work, "owl"))).model == ModelName("owl")


def test_offline_uses_what_was_verified(added: Paths, monkeypatch: pytest.MonkeyPatch, server: FileServer) -> None:
    pull(added, "fox")
    monkeypatch.setenv("PANTRY_OFFLINE", "1")
    server.requests.clear()
    steps: list[str] = []
    assert pull(added, "fox", say=lambda step, words: steps.append(words)).up_to_date
    assert any("offline: as verified on" in words for words in steps)
    assert [entry.name for entry in search_entries(added)] == ["big", "fox"]
    with pytest.raises(UsageError, match="work offline"):
        pull(added, "big")
    assert server.requests == []


def test_repository_that_disappeared(paths: Paths, lab: Published) -> None:
    trust_signer(paths)
    with serving(lab.folder) as server:
        add_repository(paths, "lab", server.url, lab.folder / "root.json")
        pull(paths, "fox")
    with pytest.raises(DownloadError, match="cannot be read"):
        pull(paths, "big")
    assert content(paths, "fox") == gguf("fox 1.0.0")
    (outcome,) = refresh_repositories(paths)
    assert isinstance(outcome.error, DownloadError)


def test_first_repository_that_has_the_name_counts(added: Paths, tmp_path: Path, work: Path) -> None:
    """A later repository cannot take a name over by a higher version."""
    other = Published(tmp_path / "other").create()
    other.publish(make_flatpack(work / "other", version="99.0.0"))
    add_repository(added, "other", str(other.folder), other.folder / "root.json")
    assert pull(added, "fox").package.version == "1.0.0"
    assert pull(added, "fox:99.0.0", Options(repository="other")).package.version == "99.0.0"
    assert [each.configured.name for each in list_repositories(added)] == ["lab", "other"]


def test_search_finds_by_words_kind_tag_memory_and_use(added: Paths, lab: Published, work: Path) -> None:
    lab.publish(make_flatpack(work, "owl", licence="CC-BY-NC-4.0", facts={"tags": ("night",)}))
    refresh_repositories(added)

    def found(*words: str, **given: object) -> list[str]:
        return [entry.name for entry in search_entries(added, words, **given)]  # type: ignore[arg-type]

    assert found() == ["big", "fox", "owl"]
    assert found("stor", "fox") == ["fox"]
    assert found(tags=["night"]) == ["owl"]
    assert found(max_memory=100_000) == ["fox", "owl"]
    assert found(uses=["commercial"]) == ["big", "fox"]
    assert found(kind="delta") == []
    assert found('"*(') == []
    with pytest.raises(UsageError, match="no kind"):
        found(kind="virus")


def test_newest_passes_over_prereleases(added: Paths, lab: Published, work: Path) -> None:
    lab.publish(make_flatpack(work, version="2.0.0-beta.1"))
    refresh_repositories(added)
    entries = [entry for entry in search_entries(added) if entry.name == "fox"]
    assert (chosen := newest(entries)) is not None
    assert chosen.version == "1.0.0"


def test_repository_with_a_wrong_root_is_not_added(paths: Paths, lab: Published, tmp_path: Path) -> None:
    other = Published(tmp_path / "other").create()
    with serving(lab.folder) as server, pytest.raises(VerificationError, match="is not signed"):
        add_repository(paths, "lab", server.url, other.folder / "root.json")
    assert list_repositories(paths) == []


def test_garbage_of_broken_downloads_is_cleaned(added: Paths, server: FileServer) -> None:
    server.faults = Faults(cut_at=1000, only="targets/big")
    with pytest.raises(DownloadError):
        pull(added, "big")
    assert list(added.partial.glob("*.part"))
    assert collect_garbage(added).partial == 0
    assert collect_garbage(added, everything=True).partial > 0
    assert not list(added.partial.glob("*"))


def _pull_once(home: str, results: multiprocessing.Queue[bool]) -> None:
    os.environ["PANTRY_HOME"] = home
    from pantry.core.paths import find_paths

    result: Pulled = pull(find_paths(), "big")
    results.put(result.up_to_date)


def test_two_pulls_at_once_are_one_download(added: Paths, server: FileServer, home: Path) -> None:
    server.faults = Faults(pause=0.01, only="targets/")
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[bool] = context.Queue()
    workers = [context.Process(target=_pull_once, args=(str(home), results)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert sorted(results.get(timeout=5) for _ in workers) == [False, True]
    assert len([path for path in server.paths() if "targets/" in path]) == 1


KILLED = """
import sys
from pantry.core.paths import find_paths
from pantry.operations.pull import pull
def tell(done, total):
    print(f"{done / total:.3f}", flush=True)
pull(find_paths(), "big", say=lambda step, words: print(step, flush=True), progress=tell)
"""


@pytest.mark.parametrize("point", ["0.01", "0.5", "0.99", "digest verified", "licence"])
def test_kill_at_any_point_loses_nothing_and_the_next_pull_goes_on(
    added: Paths, server: FileServer, point: str
) -> None:
    server.faults = Faults(pause=0.02, only="targets/")
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            word = line.strip()
            if word == point or (point[0] == "0" and word[0].isdigit() and float(word) >= float(point)):
                break
        process.send_signal(signal.SIGKILL)
    server.faults = Faults()
    assert models(added) == []
    sent = server.sent
    result = pull(added, "big")
    assert not result.up_to_date
    assert hashlib.sha256(content(added, "big")).digest() == hashlib.sha256(BIG).digest()
    if point in ("digest verified", "licence"):
        assert server.sent - sent < 100_000
    assert not [left for left in added.partial.glob("unbox-*") if left.suffix != ".lock"]  # gc removes locks
    assert verify_everything(added) == []


def test_garbage_collection_leaves_a_running_install_alone(added: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    from pantry.flatpack.archive import _unbox

    write = _unbox.TreeWriter.write

    def write_and_collect(*given: object, **named: object) -> None:
        write(*given, **named)  # type: ignore[arg-type]
        collect_garbage(added, everything=True)

    monkeypatch.setattr(_unbox.TreeWriter, "write", write_and_collect)
    pull(added, "fox")
    assert content(added, "fox") == gguf("fox 1.0.0")


def test_signer_fixture_is_the_one_that_is_trusted(added: Paths) -> None:
    with Store.open(added) as store:
        pull(added, "fox")
        package = Packages(store).get("fox")
    assert package.signer == "Ada"
    assert SIGNER.public.id
