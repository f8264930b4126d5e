import sys
from pathlib import Path

import pytest

from pantry.core.errors import ConflictError, NotFoundError, PantryError, UsageError
from pantry.core.paths import Paths
from pantry.core.registry import Registry
from pantry.core.settings import load_settings
from pantry.core.units import format_bytes, format_duration, parse_bytes


def write(paths: Paths, text: str) -> None:
    paths.config.mkdir(parents=True)
    paths.config_file.write_text(text)


def test_option_wins_over_variable_over_file_over_default(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    write(paths, "port = 1111\nqueue = 5\nparallel = 2\n")
    monkeypatch.setenv("PANTRY_QUEUE", "6")
    monkeypatch.setenv("PANTRY_PORT", "2222")
    settings = load_settings(paths, port=3333, host=None)
    assert (settings.port, settings.queue, settings.parallel, settings.host) == (3333, 6, 2, "127.0.0.1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "Did you mean 'port'"),
        ("port = 70000", "less than or equal to 65535"),
        ("port = [1]", "port"),
        ("port = ", "not valid TOML"),
        ('keep_alive = "long"', "keep_alive"),
    ],
)
def test_wrong_setting_names_what_is_wrong(paths: Paths, text: str, message: str) -> None:
    write(paths, text)
    with pytest.raises(UsageError, match=message):
        load_settings(paths)


@pytest.mark.parametrize(
    ("text", "count"), [("500", 500), ("8GB", 8 * 10**9), ("1.5 GiB", 1610612736), ("2mb", 2 * 10**6)]
)
def test_sizes_are_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GB", "8 apples", "-1"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_bytes(text)


def test_sizes_and_durations_are_shown_for_people() -> None:
    assert [format_bytes(n) for n in (0, 999, 16_200_000, 2.5e9, 7e12)] == [
        "0 B",
        "999 B",
        "16.2 MB",
        "2.5 GB",
        "7.0 TB",
    ]
    assert [format_duration(s) for s in (45, 720, 12000)] == ["45 s", "12 min", "3 h 20 min"]


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    package = tmp_path / "kinds_for_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "good.py").write_text("thing = 'good'\n")
    (package / "broken.py").write_text("1 / 0\n")
    (package / "_private.py").write_text("thing = 'hidden'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return Registry("kinds_for_test", "pantry.kinds_for_test", "thing", "kind")


def test_registry_lists_files_without_importing_them(registry: Registry) -> None:
    assert registry.names() == ["broken", "good"]
    assert "kinds_for_test.good" not in sys.modules
    assert registry.get("good") == "good"


def test_broken_entry_fails_alone_and_unknown_one_names_the_nearest(registry: Registry) -> None:
    with pytest.raises(PantryError, match="'broken' does not load: division by zero"):
        registry.get("broken")
    with pytest.raises(NotFoundError) as caught:
        registry.get("god")
    assert caught.value.hint == "Did you mean 'good'?"


def test_plugin_with_a_taken_name_is_a_conflict(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    entry = EntryPoint("good", "elsewhere:thing", "pantry.kinds_for_test")
    monkeypatch.setattr("pantry.core.registry.entry_points", lambda group: [entry])
    with pytest.raises(ConflictError, match="Two packages offer the kind 'good'"):
        registry.names()
