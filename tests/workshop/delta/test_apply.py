"""Applying: only on the right base, only a right result, nothing half-done, and interruptions cost little."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pantry.core.errors import BadFileError, BusyError, ConflictError, PantryError, StorageError, VerificationError
from pantry.flatpack.manifest import FileFact, read_manifest, write_manifest
from pantry.workshop.delta import apply as apply_module
from pantry.workshop.delta import sources
from pantry.workshop.delta.apply import apply_delta
from pantry.workshop.delta.folder import DeltaFolder
from pantry.workshop.delta.payload import PAYLOAD_NAME
from pantry.workshop.delta.sources import Source
from tests.formats.model_files import (
    base_tensors,
    bf16,
    normal,
    read_tree,
    safetensors,
    sharded,
    tuned_tensors,
    write_folder,
)
from tests.workshop.delta.deltas import apply, make

CONFIG = b'{"hidden_size": 64}' + b" " * 69_981


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "base", {"m.safetensors": safetensors(base_tensors()), "config.json": CONFIG})


@pytest.fixture
def target(tmp_path: Path) -> Path:
    tree = {"m.safetensors": safetensors(tuned_tensors()), "config.json": CONFIG + b"\n"}
    return write_folder(tmp_path / "target", tree)


@pytest.fixture
def delta(tmp_path: Path, base: Path, target: Path) -> Path:
    make(base, target, tmp_path / "delta")
    return tmp_path / "delta"


def left_over(tmp_path: Path) -> set[str]:
    return {path.name for path in tmp_path.iterdir()} - {"base", "target", "delta", "home"}


def test_a_wrong_base_is_refused_before_any_work(tmp_path: Path, base: Path, delta: Path) -> None:
    content = bytearray((base / "m.safetensors").read_bytes())
    content[-1] ^= 1
    (base / "m.safetensors").write_bytes(content)
    with pytest.raises(VerificationError, match=r"'m\.safetensors' has digest") as raised:
        apply(base, delta, tmp_path / "out")
    assert raised.value.hint == "Get the-base from https://example.org/base and give that."
    assert left_over(tmp_path) == set()


def test_a_base_file_of_another_size_or_missing_is_named(tmp_path: Path, base: Path, delta: Path) -> None:
    (base / "config.json").write_bytes(b"{}")
    with pytest.raises(VerificationError, match=r"'config\.json' has 2 bytes, 70000 expected"):
        apply(base, delta, tmp_path / "out")
    (base / "config.json").unlink()
    (base / "other").write_bytes(b"")
    with pytest.raises(VerificationError, match=r"'config\.json' is missing"):
        apply(base, delta, tmp_path / "out")
    assert left_over(tmp_path) == set()


def test_sizes_are_compared_first_and_hashing_ends_with_the_first_file_that_differs(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CHUNK", 1 << 10)
    tree = {
        f"{number}.safetensors": safetensors({f"w{number}": ("bf16", (200_000,), bytes(400_000))})
        for number in range(3)
    }
    base = write_folder(tmp_path / "shards", tree)
    make(base, base, tmp_path / "same")
    seen: list[int] = []

    def slow(done: int, total: int) -> None:
        seen.append(done)
        time.sleep(0.001)

    (base / "0.safetensors").write_bytes(tree["0.safetensors"].replace(b'"w0"', b'"v0"'))
    with pytest.raises(VerificationError, match=r"'0\.safetensors' has digest"):
        apply(base, tmp_path / "same", tmp_path / "out", slow)
    assert len(seen) < 1000, "two files of 400 steps each were under way"
    (base / "2.safetensors").write_bytes(b"")
    seen.clear()
    with pytest.raises(BadFileError):
        apply(base, tmp_path / "same", tmp_path / "out", slow)
    (base / "2.safetensors").unlink()
    with pytest.raises(VerificationError, match=r"'2\.safetensors' is missing"):
        apply(base, tmp_path / "same", tmp_path / "out", slow)
    assert seen == []


def test_a_wrong_file_is_called_as_the_user_calls_it(tmp_path: Path, target: Path) -> None:
    base = write_folder(tmp_path / "one", {"m.safetensors": safetensors(base_tensors())}) / "m.safetensors"
    make(base, target / "m.safetensors", tmp_path / "single")
    with pytest.raises(
        VerificationError, match=r"'other\.safetensors' \(in the place of 'm\.safetensors'\) has digest"
    ):
        apply((target / "m.safetensors").rename(tmp_path / "other.safetensors"), tmp_path / "single", tmp_path / "out")


def test_files_of_the_base_that_are_not_used_do_not_matter(tmp_path: Path, base: Path, target: Path) -> None:
    (base / "README.md").write_text("read me")
    make(base, target, tmp_path / "delta")
    (base / "README.md").write_text("read me again")
    apply(base, tmp_path / "delta", tmp_path / "out")
    assert read_tree(tmp_path / "out") == read_tree(target)


def test_the_same_weights_in_other_files_are_accepted_by_contents(tmp_path: Path, target: Path) -> None:
    base = write_folder(tmp_path / "base", {"m.safetensors": safetensors(base_tensors())})
    cut = write_folder(tmp_path / "cut", sharded(base_tensors(), 3))
    make(base, target, tmp_path / "delta")
    assert apply(cut, tmp_path / "delta", tmp_path / "out").by_contents
    assert read_tree(tmp_path / "out") == read_tree(target)


def test_the_same_weights_do_not_do_where_the_bytes_of_a_file_are_needed(
    tmp_path: Path, delta: Path, target: Path
) -> None:
    cut = write_folder(tmp_path / "cut", sharded(base_tensors(), 3))
    with pytest.raises(VerificationError, match=r"the tensors are right, but 'config\.json' is missing"):
        apply(cut, delta, tmp_path / "out")
    (cut / "config.json").write_bytes(CONFIG)
    apply(cut, delta, tmp_path / "out")
    assert read_tree(tmp_path / "out") == read_tree(target)


def test_pytorch_and_safetensors_forms_of_a_base_are_the_same_contents(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    tensors = {"a": torch.arange(12).reshape(3, 4).bfloat16(), "b": torch.ones(5)}
    torch.save(tensors, tmp_path / "model.pth")
    plain = {
        name: ({"a": "bf16", "b": "f32"}[name], tuple(t.shape), t.view(torch.uint8).numpy().tobytes())
        for name, t in reversed(tensors.items())
    }
    (tmp_path / "model.safetensors").write_bytes(safetensors(plain))
    with Source.open(tmp_path / "model.pth") as one, Source.open(tmp_path / "model.safetensors") as other:
        assert one.contents == other.contents


def test_a_single_file_may_have_any_name(tmp_path: Path, base: Path, target: Path) -> None:
    make(base / "m.safetensors", target / "m.safetensors", tmp_path / "delta")
    (base / "m.safetensors").rename(tmp_path / "renamed.safetensors")
    apply(tmp_path / "renamed.safetensors", tmp_path / "delta", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == (target / "m.safetensors").read_bytes()
    (tmp_path / "folder").mkdir()
    apply(tmp_path / "renamed.safetensors", tmp_path / "delta", tmp_path / "folder")
    assert (tmp_path / "folder" / "m.safetensors").exists()


def test_what_is_there_is_never_overwritten(tmp_path: Path, base: Path, target: Path, delta: Path) -> None:
    (tmp_path / "out").mkdir()
    apply(base, delta, tmp_path / "out")
    assert read_tree(tmp_path / "out") == read_tree(target)
    with pytest.raises(ConflictError, match="exists already"):
        apply(base, delta, tmp_path / "out")
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ConflictError, match="exists already"):
        apply(base, delta, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_appears_while_it_is_built_is_not_overwritten(
    tmp_path: Path, base: Path, target: Path, delta: Path, kind: str
) -> None:
    """Another program makes a file of that name after the check and before the result is there."""
    out = tmp_path / "out"
    if kind == "file":
        make(base / "m.safetensors", target / "m.safetensors", tmp_path / "one")
        base, delta = base / "m.safetensors", tmp_path / "one"
    else:
        out.mkdir()
    mine = out if kind == "file" else out / "mine"
    with pytest.raises(ConflictError, match="meanwhile"):
        apply(base, delta, out, lambda *_: mine.write_bytes(b"mine"))
    assert mine.read_bytes() == b"mine"
    assert len(list(out.rglob("*")) if kind == "folder" else [out]) == 1


@pytest.mark.parametrize("kind", ["new", "empty folder", "one file"])
def test_the_result_is_on_the_disk(
    tmp_path: Path, base: Path, target: Path, delta: Path, synced: list[int], kind: str
) -> None:
    out = tmp_path / "out"
    if kind == "empty folder":
        out.mkdir()
    if kind == "one file":
        make(base / "m.safetensors", target / "m.safetensors", tmp_path / "one")
        base, delta = base / "m.safetensors", tmp_path / "one"
    synced.clear()
    apply(base, delta, out)
    files = [out] if kind == "one file" else sorted(out.iterdir())
    folders = [out, tmp_path] if kind == "empty folder" else [tmp_path]
    assert set(synced[: len(files)]) == {file.stat().st_ino for file in files}
    assert synced[len(files) :] == [folder.stat().st_ino for folder in folders]


def test_an_empty_folder_that_is_there_is_filled(
    tmp_path: Path, base: Path, target: Path, delta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays the folder it is: the one the user stands in, or where another disk begins."""
    out = tmp_path / "parent" / "out"
    out.mkdir(parents=True)
    number = out.stat().st_ino
    beside: set[str] = set()
    monkeypatch.chdir(out)
    with Source.open(base) as source, DeltaFolder(delta) as opened:
        apply_delta(source, opened, Path(), lambda *_: beside.update(path.name for path in out.parent.iterdir()))
    assert beside == {"out"}
    assert out.stat().st_ino == number
    assert read_tree(out) == read_tree(target)


def test_a_manifest_that_promises_another_result_is_refused(tmp_path: Path, base: Path, delta: Path) -> None:
    manifest = read_manifest(delta)
    assert manifest.delta is not None
    first = manifest.delta.results[0]
    wrong = FileFact(path=first.path, digest=manifest.delta.results[1].digest, size=first.size)
    table = manifest.delta.model_copy(update={"results": (wrong, manifest.delta.results[1])})
    write_manifest(manifest.model_copy(update={"delta": table}), delta)
    with pytest.raises(BadFileError, match="disagree"):
        apply(base, delta, tmp_path / "out")
    assert left_over(tmp_path) == set()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with base, target and a delta of about 2 kB."""
    folder = tmp_path_factory.mktemp("small")
    old = {"w": ("bf16", (64, 8), bf16(normal(1, 64, 8))), "frozen": ("bf16", (8,), bf16(normal(2, 8)))}
    new = {**old, "w": ("bf16", (64, 8), bf16(normal(1, 64, 8) + normal(3, 64, 8, scale=0.001)))}
    base = write_folder(folder / "base", {"m.safetensors": safetensors(old), "c.json": CONFIG})
    target = write_folder(folder / "target", {"m.safetensors": safetensors(new), "c.json": CONFIG + b"\n"})
    make(base, target, folder / "delta")
    return folder


@settings(max_examples=150)
@given(data=st.data())
def test_no_change_to_a_payload_yields_a_wrong_file(tmp_path: Path, small: Path, data: st.DataObject) -> None:
    content = bytearray((small / "delta" / PAYLOAD_NAME).read_bytes())
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "swap"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if kind == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "cut":
        del content[at : at + data.draw(st.integers(1, 40))]
    elif kind == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=20))
    else:
        other = data.draw(st.integers(0, len(content) - 1))
        content[at], content[other] = content[other], content[at]
    room = tmp_path / os.urandom(4).hex()
    shutil.copytree(small / "delta", room / "delta")
    (room / "delta" / PAYLOAD_NAME).write_bytes(content)
    try:
        apply(small / "base", room / "delta", room / "out")
    except PantryError:
        assert {path.name for path in room.iterdir()} == {"delta"}
    else:
        assert read_tree(room / "out") == read_tree(small / "target")


class Interrupted(BaseException):
    """Stands for Ctrl-C."""


def big_pair(tmp_path: Path) -> tuple[Path, Path]:
    names = [f"layer{n}.weight" for n in range(6)]
    old = {name: ("bf16", (600_000,), bf16(normal(n, 600_000))) for n, name in enumerate(names)}
    new = {
        name: ("bf16", (600_000,), bf16(normal(n, 600_000) + normal(n + 50, 600_000, scale=0.001)))
        for n, name in enumerate(names)
    }
    base = write_folder(tmp_path / "base", {"m.safetensors": safetensors(old), "z.txt": b"z"})
    return base, write_folder(tmp_path / "target", {"m.safetensors": safetensors(new), "z.txt": b"zz"})


def rebuilding(base: Path, tmp_path: Path) -> list[int]:
    """Apply the delta; what was reported after the base was read, in bytes of the result."""
    read = sum(file.stat().st_size for file in base.glob("m.*"))
    seen: list[int] = []
    apply(base, tmp_path / "delta", tmp_path / "out", lambda done, _: seen.append(done - read))
    assert seen == sorted(seen)
    assert any(-read < done < 0 for done in seen), "reading the base is reported too"
    return [done for done in seen if done > 0]


def test_an_interrupted_run_is_taken_up_at_the_tensor_it_reached(tmp_path: Path) -> None:
    base, target = big_pair(tmp_path)
    make(base, target, tmp_path / "delta")

    def stop_half_way(done: int, total: int) -> None:
        if done > total * 0.75:
            raise Interrupted

    with pytest.raises(Interrupted):
        apply(base, tmp_path / "delta", tmp_path / "out", stop_half_way)
    assert not (tmp_path / "out").exists()
    seen = rebuilding(base, tmp_path)
    assert seen[0] >= 2 * 1_200_000, "two of six tensors were kept"
    assert read_tree(tmp_path / "out") == read_tree(target)
    assert left_over(tmp_path) == {"out"}


def test_what_an_interruption_left_is_not_trusted(tmp_path: Path) -> None:
    base, target = big_pair(tmp_path)
    make(base, target, tmp_path / "delta")

    def stop_near_end(done: int, total: int) -> None:
        if done > total * 0.95:
            raise Interrupted

    with pytest.raises(Interrupted):
        apply(base, tmp_path / "delta", tmp_path / "out", stop_near_end)
    (stage,) = [path for path in tmp_path.iterdir() if path.name.startswith(".tmp-delta-")]
    with (stage / "m.safetensors").open("r+b") as file:
        file.seek(2_000_000)
        file.write(b"damage")
    assert 1_200_000 <= rebuilding(base, tmp_path)[0] < 2_000_000
    assert read_tree(tmp_path / "out") == read_tree(target)


def test_a_result_that_is_not_what_was_promised_is_deleted(
    tmp_path: Path, base: Path, delta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = apply_module.Decoder.blocks
    monkeypatch.setattr(
        apply_module.Decoder, "blocks", lambda *given: ((lambda work=work: work()[::-1]) for work in real(*given))
    )
    with pytest.raises(VerificationError, match="It was not kept"):
        apply(base, delta, tmp_path / "out")
    assert left_over(tmp_path) == set()


def test_two_runs_at_one_place_do_not_mix(tmp_path: Path, base: Path, delta: Path) -> None:
    with DeltaFolder(delta) as opened:
        stage = tmp_path / f".tmp-delta-{opened.identity[:16]}"
    stage.mkdir()
    lock = os.open(stage, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(BusyError, match="right now"):
        apply(base, delta, tmp_path / "out")
    os.close(lock)
    apply(base, delta, tmp_path / "out")


def test_a_work_folder_that_is_a_link_is_not_used(tmp_path: Path, base: Path, delta: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with DeltaFolder(delta) as opened:
        (tmp_path / f".tmp-delta-{opened.identity[:16]}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        apply(base, delta, tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_disk_too_small_is_told_before_work(
    tmp_path: Path, base: Path, delta: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = namedtuple("disk", "f_bavail f_frsize")
    monkeypatch.setattr(apply_module.os, "statvfs", lambda _: disk(10, 4096))
    with pytest.raises(StorageError, match=r"41\.0 kB free"):
        apply(base, delta, tmp_path / "out")
    assert left_over(tmp_path) == set()


def test_a_link_planted_in_the_work_folder_is_not_followed(tmp_path: Path, base: Path, delta: Path) -> None:
    with DeltaFolder(delta) as opened:
        stage = tmp_path / f".tmp-delta-{opened.identity[:16]}"
    stage.mkdir()
    (tmp_path / "victim").write_bytes(b"precious")
    (stage / "m.safetensors").symlink_to(tmp_path / "victim")
    with pytest.raises(StorageError):
        apply(base, delta, tmp_path / "out")
    assert (tmp_path / "victim").read_bytes() == b"precious"
