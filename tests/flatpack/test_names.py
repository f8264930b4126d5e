from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import BadFileError
from pantry.flatpack import names
from pantry.flatpack.names import NameGuard, check_path, fold


@pytest.mark.parametrize(
    "path", ["a", "a/b/c.txt", "über/ñ", "日本語.txt", "a b", "...", ".hidden", "x" * 255, "a..b", "con"]
)
def test_ordinary_names_pass(path: str) -> None:
    assert check_path(path) == path


@given(st.text(max_size=60))
def test_a_name_that_passes_stays_below_the_folder(path: str) -> None:
    try:
        check_path(path)
    except BadFileError:
        return
    parts = path.split("/")
    assert not path.startswith("/")
    assert not {"", ".", ".."} & set(parts)
    assert not set(path) & set("\0\n\r\\")
    path.encode()


@given(st.lists(st.text("aAbB/é\u0301", min_size=1, max_size=4), max_size=8))
def test_what_the_guard_lets_in_is_distinct_on_every_file_system(paths: list[str]) -> None:
    guard, kept = NameGuard(), []
    for path in paths:
        try:
            guard.add(path)
        except BadFileError:
            continue
        kept.append(path)
    assert len({fold(path) for path in kept}) == len(kept)
    folders = {tuple(path.split("/")[:depth]) for path in kept for depth in range(1, path.count("/") + 1)}
    assert len({fold("/".join(folder)) for folder in folders}) == len(folders)
    assert not {"/".join(folder) for folder in folders} & set(kept)


def test_the_same_folder_may_come_again() -> None:
    guard = NameGuard()
    guard.add_folder("a")
    guard.add_folder("a")
    guard.add("a/b")
    with pytest.raises(BadFileError):
        guard.add_folder("a/b")
    with pytest.raises(BadFileError):
        guard.add_folder("A")


def test_a_path_of_more_parts_than_programs_go_down() -> None:
    NameGuard().add("a/" * 254 + "b")
    for folders in (255, 1500, 2047):
        with pytest.raises(BadFileError, match="more than 255 parts"):
            NameGuard().add("a/" * folders + "b")


def test_deep_folders_do_not_take_memory_without_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these paths has 4 kB, and its folders together hundreds of times that."""
    monkeypatch.setattr(names, "MAX_HELD", 8 << 20)
    guard, end = NameGuard(), "/".join(["a" * 15] * 250)
    tracemalloc.start()
    try:
        with pytest.raises(BadFileError, match="8 MiB"):
            _add_all(guard, [f"{number:05d}/{end}" for number in range(100)])
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


def _add_all(guard: NameGuard, paths: list[str]) -> None:
    for path in paths:
        guard.add(path)


@pytest.mark.parametrize(
    ("path", "longer"),
    [
        ("/".join("a" * names.MAX_PARTS), "/a"),
        ("x" * names.MAX_PART, "x"),
        ("ü" * (names.MAX_PART // 2), "ü"),
        ("/".join(["x" * 240] * 17)[: names.MAX_PATH - 1] + "x", "x"),
    ],
    ids=["parts", "part", "part in bytes", "path"],
)
def test_a_name_at_its_limit_passes_and_one_beyond_does_not(path: str, longer: str) -> None:
    assert check_path(path) == path
    with pytest.raises(BadFileError, match=r"more than|longer than"):
        check_path(path + longer)
