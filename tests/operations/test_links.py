"""Deep links: what they ask for, and what no link may."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import NotFoundError, PantryError, UsageError
from pantry.core.paths import Paths
from pantry.core.refs import ModelName
from pantry.operations.links import Link, parse_link, repository_of
from tests.processes import run_pantry


def test_links_say_what_they_would_do() -> None:
    link = parse_link("pantry://pull/qwen3-0.6b?repo=https://models.example/lab")
    assert link == Link("pull", ModelName("qwen3-0.6b"), "https://models.example/lab")
    assert link.describe() == (
        "download, verify and install the model qwen3-0.6b from the repository https://models.example/lab"
    )
    assert parse_link("pantry://run/fox:small?prompt=Tell%20me").prompt == "Tell me"
    assert parse_link("pantry://load/fox").describe() == "load the model fox"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "https://pull/fox",
        "pantry:pull/fox",
        "pantry://pull",
        "pantry://remove/fox",
        "pantry://pull/../../etc/passwd",
        "pantry://pull/%2e%2e%2fetc",
        "pantry://pull/fox?pickle=1",
        "pantry://pull/fox?repo=https://a.example&repo=https://b.example",
        "pantry://pull/fox?repo=file:///etc",
        "pantry://pull/fox?repo=http://models.example",
        "pantry://pull/fox?repo=https://user:word@models.example",
        "pantry://load/fox?prompt=x",
        "pantry://run/fox?prompt=%1b[31m",
        "pantry://pull/fox#x",
        "pantry://[",
        "pantry://pull/\u202efox",
        "pantry://run/fox?prompt=" + "x" * 5000,
    ],
)
def test_other_links_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_link(text)


@given(st.text(max_size=80))
def test_any_text_is_a_link_or_a_clear_error(text: str) -> None:
    for given_text in (text, f"pantry://{text}", f"pantry://pull/fox?{text}"):
        with contextlib.suppress(PantryError):
            assert parse_link(given_text).model


def test_link_never_adds_a_repository(paths: Paths) -> None:
    assert repository_of(paths, Link("pull", ModelName("fox"))) is None
    with pytest.raises(NotFoundError, match="pantry repo add"):
        repository_of(paths, Link("pull", ModelName("fox"), "https://models.example"))


def test_command_asks_and_does_nothing_on_no(home: Path) -> None:
    done = run_pantry("open", "pantry://load/fox", stdin="n\n")
    assert done.returncode == 0, done.stderr
    assert "This link wants to load the model fox." in done.stdout
    assert "Nothing was done." in done.stdout
    assert not (home / "run" / "service.json").exists()
