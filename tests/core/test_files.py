import fcntl
import os
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pantry.core.errors import ForbiddenError, StorageError
from pantry.core.files import (
    finish_folder,
    folder_beside,
    remove_stale,
    staged_file,
    storage_errors,
    write_atomically,
)
from pantry.core.paths import MAX_SOCKET_PATH, find_paths, make_private


def test_failure_while_writing_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomically(file, b"old")
    with pytest.raises(ValueError, match="closed"), staged_file(file) as out:
        out.close()
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_mode_is_set_before_the_content_is_there(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    with staged_file(file, mode=0o600) as out:
        (temporary,) = tmp_path.iterdir()
        assert temporary.stat().st_mode & 0o077 == 0
        out.write(b"x")
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, synced: list[int]) -> None:
    """A power cut after the rename must not leave a name with nothing, or half, behind it."""
    file, replace = tmp_path / "a", Path.replace
    before: list[list[int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", lambda self, to: (before.append(list(synced)), replace(self, to))[1])
        write_atomically(file, b"whole")
    assert before == [[file.stat().st_ino]]
    assert synced == [file.stat().st_ino, tmp_path.stat().st_ino]


def test_the_name_of_a_finished_folder_is_on_the_disk(tmp_path: Path, synced: list[int]) -> None:
    with folder_beside(tmp_path / "out") as folder:
        finish_folder(folder, tmp_path / "out")
    assert synced == [tmp_path.stat().st_ino]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give files away; CI runs as root")
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_another_user_left_is_not_removed(tmp_path: Path, kind: str) -> None:
    final = tmp_path / "out"
    left = _unfinished_folder(final)
    if kind == "file":
        left.rmdir()
        left.write_bytes(b"theirs")
    os.chown(left, 65534, 65534)
    remove_stale(final)
    assert left.exists()
    os.chown(left, os.getuid(), os.getgid())
    remove_stale(final)
    assert not left.exists()


def test_process_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomically(file, b"old")
    code = (
        "import os, sys; from pathlib import Path; from pantry.core.files import staged_file\n"
        "with staged_file(Path(sys.argv[1])) as out: out.write(b'new'); out.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert file.read_bytes() == b"old"


def test_system_errors_become_storage_errors_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"does not exist \(.*none"), storage_errors("Reading"):
        (tmp_path / "none").read_bytes()


def test_home_variable_puts_everything_in_one_folder(tmp_path: Path) -> None:
    paths = find_paths({"PANTRY_HOME": str(tmp_path)})
    assert all(folder.is_relative_to(tmp_path) for folder in (paths.config, paths.data))


def test_socket_path_of_a_deep_home_stays_short_enough(tmp_path: Path) -> None:
    paths = find_paths({"PANTRY_HOME": str(tmp_path / ("deep" * 30))})
    assert len(os.fsencode(paths.socket)) <= MAX_SOCKET_PATH


def test_private_folder_is_closed_to_others_even_if_it_was_open(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    make_private(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a folder away; CI runs as root")
def test_folder_of_another_user_is_not_used(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    with pytest.raises(ForbiddenError, match="another user"):
        make_private(folder)


def test_link_in_place_of_a_private_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ForbiddenError):
        make_private(tmp_path / "link")


KILLED = """
import os, signal, sys
from pathlib import Path
from pantry.core.files import folder_beside, staged_file
with staged_file(Path(sys.argv[1])) as file, folder_beside(Path(sys.argv[1])) as folder:
    file.write(b"half")
    file.flush()
    (folder / "inner").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    final = tmp_path / "a.fpk"
    subprocess.run([sys.executable, "-c", KILLED, final], check=False)
    subprocess.run([sys.executable, "-c", KILLED, tmp_path / "b.fpk"], check=False)
    left = set(tmp_path.iterdir())
    assert len(left) == 4
    with staged_file(final) as file, folder_beside(final) as folder:
        at_work = set(tmp_path.iterdir()) - left
        assert len(at_work) == 2
        remove_stale(final)
        assert set(tmp_path.iterdir()) >= at_work
        assert len(set(tmp_path.iterdir()) & left) == 2
        file.write(b"whole")
        assert folder.is_dir()
    assert final.read_bytes() == b"whole"
    remove_stale(tmp_path / "b.fpk")
    assert list(tmp_path.iterdir()) == [final]


def _unfinished_folder(final: Path) -> Path:
    """What a killed process leaves: a folder marked as unfinished that nobody holds."""
    with folder_beside(final) as folder:
        left = folder.with_name(f"{folder.name}-left")
        folder.rename(left)
    return left


def test_a_folder_that_only_took_the_name_of_unfinished_work_is_kept(tmp_path: Path) -> None:
    final = tmp_path / "out"
    name = _unfinished_folder(final).name
    remove_stale(final)
    assert not list(tmp_path.iterdir())
    mine = tmp_path / name  # as somebody else could rename a folder of mine in a shared one
    (mine / "work").mkdir(parents=True)
    (mine / "work" / "thesis").write_text("years")
    remove_stale(final)
    assert (mine / "work" / "thesis").read_text() == "years"


def test_links_in_and_for_unfinished_work_are_not_followed(tmp_path: Path) -> None:
    final, kept = tmp_path / "out", tmp_path / "kept"
    kept.mkdir()
    (kept / "a").write_text("a")
    left = _unfinished_folder(final)
    (left / "link").symlink_to(kept)
    (left / "inner").mkdir()
    (left / "inner" / "link").symlink_to(kept / "a")
    link = tmp_path / f"{left.name}-2"
    link.symlink_to(kept)
    remove_stale(final)
    assert not left.exists()
    assert link.is_symlink()
    assert (kept / "a").read_text() == "a"


def test_a_finished_folder_has_the_mode_of_any_other(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with folder_beside(tmp_path / "out") as folder:
        assert folder.stat().st_mode & stat.S_ISVTX
        finish_folder(folder, tmp_path / "out")
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_many_at_once_write_one_name_and_all_succeed(tmp_path: Path) -> None:
    final = tmp_path / "a"

    def write(number: int) -> None:
        for _ in range(100):
            remove_stale(final)
            write_atomically(final, b"%d" % number)
            with folder_beside(final) as folder:
                (folder / "x").write_bytes(b"x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert list(tmp_path.iterdir()) == [final]


def test_work_that_another_process_is_about_to_remove_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The remover may hold the lock of a file that was just made, before whoever made it has it."""
    lock, refused = fcntl.flock, []

    def taken(descriptor: int, how: int) -> None:
        if len(refused) < 2:
            refused.append(descriptor)
            raise BlockingIOError
        lock(descriptor, how)

    monkeypatch.setattr("pantry.core.locks.fcntl.flock", taken)
    with folder_beside(tmp_path / "a") as folder:
        assert len(refused) == 2
        assert list(tmp_path.iterdir()) == [folder]
    refused.clear()
    write_atomically(tmp_path / "a", b"whole")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert len(refused) == 2


def test_work_finished_while_another_looks_at_it_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The looker opened it, and gets the lock when it has its final name."""
    final = tmp_path / "out"
    with folder_beside(final) as folder:
        (folder / "a").write_text("a")
        monkeypatch.setattr("pantry.core.locks.fcntl.flock", lambda *_: finish_folder(folder, final))
        remove_stale(final)
    assert (final / "a").read_text() == "a"
