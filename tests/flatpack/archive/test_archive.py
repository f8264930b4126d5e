from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import zstandard

from pantry.core.errors import BadFileError, ConflictError, NotFoundError, UsageError, VerificationError
from pantry.flatpack.archive import _tar, _unbox
from pantry.flatpack.archive._writer import FRAME_SIZE
from pantry.flatpack.archive.archive import Reader, pack
from pantry.flatpack.signing.keys import PrivateKey
from pantry.flatpack.signing.signature import judge, sign
from pantry.flatpack.signing.trust import Trust
from tests.flatpack.conftest import tree


def test_pack_and_unbox_give_the_same_tree(source: Path, packed: Path, tmp_path: Path) -> None:
    with Reader(packed) as reader:
        reader.unbox(tmp_path / "out")
    assert tree(tmp_path / "out") == tree(source)


def test_same_input_gives_same_bytes_whatever_times_and_order(source: Path, packed: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in sorted(source.iterdir(), reverse=True):
        (shutil.copytree if file.is_dir() else shutil.copy2)(file, copy / file.name)
        os.utime(copy / file.name, (1, 1))
    (copy / "README.md").chmod(0o600)
    assert pack(copy, tmp_path / "again.fpk").path.read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("level", [None, 1, 19])
@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 65_536, 65_537, FRAME_SIZE - 1, FRAME_SIZE, 2 * FRAME_SIZE + 1])
def test_sizes_around_every_boundary_survive(source: Path, tmp_path: Path, size: int, level: int | None) -> None:
    content = os.urandom(size // 2) + bytes(size - size // 2)
    (source / "weights").write_bytes(content)
    with Reader(pack(source, tmp_path / "a.fpk", level=level).path) as reader:
        reader.check()
        reader.check_contents()
        reader.unbox(tmp_path / "out")
    assert (tmp_path / "out" / "weights").read_bytes() == content


def test_plain_tar_and_zstd_open_it(source: Path, signed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "--zstd", "-xf", signed, "-C", tmp_path / "out"], check=True)
    assert tree(tmp_path / "out") == tree(source)


def test_python_tarfile_reads_every_header(source: Path, packed: Path) -> None:
    with packed.open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            found = {item.name: (item.size, item.mode, item.mtime, item.uid, item.uname) for item in tar}
    assert found.keys() == tree(source).keys()
    assert found["run.sh"] == (10, 0o755, 0, 0, "")
    assert found["README.md"] == (350, 0o644, 0, 0, "")


def test_a_header_above_8_gib_tells_its_size_in_pax() -> None:
    block = _tar.header("big", 9 << 30, executable=False)
    with tarfile.open(fileobj=__import__("io").BytesIO(block + bytes(1024))) as tar:
        info = tar.next()
    assert info is not None
    assert (info.name, info.size) == ("big", 9 << 30)


def test_what_does_not_compress_is_stored_and_costs_little(source: Path, tmp_path: Path) -> None:
    (source / "noise").write_bytes(os.urandom(3 * FRAME_SIZE))
    result = pack(source, tmp_path / "a.fpk")
    assert result.size < result.content_size * 1.001


def test_what_compresses_gets_smaller_unless_stored(source: Path, tmp_path: Path) -> None:
    (source / "text").write_bytes(b"a line of text\n" * 500_000)
    assert pack(source, tmp_path / "a.fpk").size < 100_000
    assert pack(source, tmp_path / "b.fpk", level=None).size > 7_000_000


def test_only_unboxes_what_matches(source: Path, signed: Path, tmp_path: Path) -> None:
    with Reader(signed) as reader:
        written = reader.unbox(tmp_path / "out", only="sub/*")
    assert [item.path for item in written] == ["sub/wörter.txt"]
    assert tree(tmp_path / "out").keys() == {"sub/wörter.txt"}


def test_only_reads_the_frames_it_needs(source: Path, tmp_path: Path) -> None:
    (source / "a-large").write_bytes(os.urandom(4 * FRAME_SIZE))
    (source / "z-last").write_text("last")
    path = pack(source, tmp_path / "a.fpk").path
    with path.open("r+b") as file:
        file.seek(2 * FRAME_SIZE)
        file.write(b"broken")
    with Reader(path) as reader:
        reader.unbox(tmp_path / "out", only=["z-*"])
        with pytest.raises(VerificationError, match=r"Frame \d+ .* was changed"):
            reader.unbox(tmp_path / "all")
    assert tree(tmp_path / "out").keys() == {"z-last"}
    assert not (tmp_path / "all").exists()


def test_only_without_match_names_the_nearest_file(packed: Path, tmp_path: Path) -> None:
    with Reader(packed) as reader, pytest.raises(NotFoundError, match=r"README\.md"):
        reader.unbox(tmp_path / "out", only="README.txt")


def test_read_gives_one_file_checked(packed: Path, source: Path) -> None:
    with Reader(packed) as reader:
        assert reader.read("sub/wörter.txt") == (source / "sub" / "wörter.txt").read_bytes()
        with pytest.raises(NotFoundError, match=r"Did you mean 'README\.md'"):
            reader.read("README.mb")


def test_unbox_keeps_out_of_a_folder_that_holds_something(packed: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with Reader(packed) as reader, pytest.raises(ConflictError):
        reader.unbox(tmp_path / "out")
    assert tree(tmp_path / "out") == {"mine": (b"mine", False)}


def test_a_verdict_of_another_flatpack_does_not_count(signed: Path, source: Path, trust: Trust, tmp_path: Path) -> None:
    (source / "README.md").write_text("another")
    other = pack(source, tmp_path / "other.fpk").path
    with Reader(signed) as reader:
        verdict = judge(reader, trust)
    with Reader(other) as reader, pytest.raises(VerificationError, match="another flatpack"):
        reader.unbox(tmp_path / "out", verified_by=verdict)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [".git", ".gitignore", "model.sig"])
def test_git_files_and_an_old_bundle_stay_out(source: Path, tmp_path: Path, name: str) -> None:
    before = pack(source, tmp_path / "a.fpk").path.read_bytes()
    (source / name).write_text("x")
    assert pack(source, tmp_path / "b.fpk").path.read_bytes() == before


def test_a_link_is_refused_at_packing(source: Path, tmp_path: Path) -> None:
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(BadFileError, match="'link' is a link to '/etc/passwd'"):
        pack(source, tmp_path / "a.fpk")
    assert not (tmp_path / "a.fpk").exists()


def test_a_pipe_is_refused_at_packing(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe")
    with pytest.raises(BadFileError, match="device, pipe or socket"):
        pack(source, tmp_path / "a.fpk")


def test_clashing_names_are_refused_at_packing(source: Path, tmp_path: Path) -> None:
    (source / "readme.MD").write_text("x")
    with pytest.raises(BadFileError, match="differ only by case"):
        pack(source, tmp_path / "a.fpk")


def test_output_inside_the_folder_is_refused(source: Path) -> None:
    with pytest.raises(UsageError, match="inside the folder"):
        pack(source, source / "a.fpk")


def test_a_file_that_grows_while_packed_is_an_error(source: Path, tmp_path: Path) -> None:
    weights = source / "weights"
    weights.write_bytes(bytes(2 * FRAME_SIZE))

    def grow(done: int, total: int) -> None:
        with weights.open("ab") as file:
            file.write(b"more")

    with pytest.raises(BadFileError, match="became longer"):
        pack(source, tmp_path / "a.fpk", progress=grow)
    assert not (tmp_path / "a.fpk").exists()


def test_an_interrupted_pack_leaves_nothing(source: Path, tmp_path: Path) -> None:
    (source / "weights").write_bytes(os.urandom(4 * FRAME_SIZE))

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(source, tmp_path / "out" / "a.fpk", progress=stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_interrupted_unbox_leaves_nothing(source: Path, tmp_path: Path) -> None:
    (source / "weights").write_bytes(os.urandom(4 * FRAME_SIZE))
    path = pack(source, tmp_path / "a.fpk").path

    def stop(done: int, total: int) -> None:
        if done > FRAME_SIZE:
            raise KeyboardInterrupt

    with Reader(path) as reader, pytest.raises(KeyboardInterrupt):
        reader.unbox(tmp_path / "new" / "out", progress=stop)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_kill_while_unboxing_leaves_no_final_name(source: Path, tmp_path: Path) -> None:
    (source / "weights").write_bytes(os.urandom(8 * FRAME_SIZE))
    path = pack(source, tmp_path / "a.fpk").path
    code = (
        "import sys,os,signal;from pathlib import Path;from pantry.flatpack.archive.archive import Reader\n"
        "def kill(done,total):\n if done>5_000_000: os.kill(os.getpid(),signal.SIGKILL)\n"
        "Reader(Path(sys.argv[1])).unbox(Path(sys.argv[2]),progress=kill)"
    )
    done = subprocess.run([sys.executable, "-c", code, path, tmp_path / "new" / "out"], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "new" / "out").exists()


def test_progress_ends_at_the_total(source: Path, tmp_path: Path) -> None:
    (source / "weights").write_bytes(os.urandom(FRAME_SIZE + 5))
    steps: list[tuple[int, int]] = []
    path = pack(source, tmp_path / "a.fpk", progress=lambda *step: steps.append(step)).path
    assert steps[-1][0] == steps[-1][1] == sum(len(content) for content, _ in tree(source).values())
    steps.clear()
    with Reader(path) as reader:
        reader.check(lambda *step: steps.append(step))
    assert steps[-1] == (reader.data_size, reader.data_size)


@pytest.mark.slow
def test_a_hundred_thousand_empty_files_take_seconds(source: Path, tmp_path: Path) -> None:
    many = source / "many"
    many.mkdir()
    for number in range(100_000):
        os.close(os.open(many / f"{number}", os.O_CREAT | os.O_WRONLY))
    start = time.process_time()
    path = pack(source, tmp_path / "a.fpk").path
    with Reader(path) as reader:
        assert len(reader.entries) == 100_006
        reader.unbox(tmp_path / "out")
    assert time.process_time() - start < 60
    assert sum(1 for _ in (tmp_path / "out" / "many").iterdir()) == 100_000


MEMORY = """
import sys, re
from pathlib import Path
from pantry.flatpack.archive.archive import Reader, pack
source, base = Path(sys.argv[1]), Path(sys.argv[2])
path = pack(source, base / "a.fpk", level=None).path
with Reader(path) as reader:
    reader.check()
    reader.unbox(base / "out", only="weights")
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def _peak_megabytes(source: Path, base: Path, size: int) -> int:
    with (source / "weights").open("wb") as file:
        file.truncate(size)
    return int(subprocess.check_output([sys.executable, "-c", MEMORY, source, base], text=True))


def test_memory_stays_small(source: Path, tmp_path: Path) -> None:
    assert _peak_megabytes(source, tmp_path, 300_000_000) <= 200


@pytest.mark.slow
def test_memory_stays_small_for_4_gb_and_inspecting_reads_little(source: Path, tmp_path: Path) -> None:
    assert _peak_megabytes(source, tmp_path, 4_000_000_000) <= 200
    start = time.process_time()
    with Reader(tmp_path / "a.fpk") as reader:
        assert reader.manifest.name == "ada/tiny"
        assert reader.entries[-1].known_size == 4_000_000_000
    assert time.process_time() - start < 0.05


@pytest.mark.parametrize("few", [0, 500])
def test_unboxing_syncs_its_own_files_not_every_disk(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[int], few: int
) -> None:
    monkeypatch.setattr(_unbox, "_FEW", few)
    monkeypatch.setattr(os, "sync", lambda: pytest.fail("every disk of the machine was synced"))
    with Reader(packed) as reader:
        reader.unbox(tmp_path / "out")
    if few:
        assert {item.stat().st_ino for item in (tmp_path / "out").rglob("*")} <= set(synced)
    assert (tmp_path / "out" / "run.sh").is_file()


def test_a_flatpack_is_on_the_disk_before_it_has_its_name(
    source: Path, tmp_path: Path, synced: list[int], ec_key: PrivateKey
) -> None:
    packed = pack(source, tmp_path / "a.fpk").path
    assert synced[-2:] == [packed.stat().st_ino, tmp_path.stat().st_ino]
    signed = sign(packed, [ec_key], tmp_path / "b.fpk")
    assert synced[-2:] == [signed.stat().st_ino, tmp_path.stat().st_ino]
