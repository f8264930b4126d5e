import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.core.errors import UsageError
from pantry.core.refs import Digest, ModelName


@pytest.mark.parametrize(
    ("text", "name", "tag", "shown"),
    [
        ("starter", "starter", "latest", "starter"),
        ("Qwen3-0.6B", "qwen3-0.6b", "latest", "qwen3-0.6b"),
        ("qwen3:Q4_K_M", "qwen3", "q4_k_m", "qwen3:q4_k_m"),
        (" a ", "a", "latest", "a"),
        ("a:latest", "a", "latest", "a"),
    ],
)
def test_name_is_parsed_and_shown(text: str, name: str, tag: str, shown: str) -> None:
    parsed = ModelName.parse(text)
    assert (parsed.name, parsed.tag, str(parsed)) == (name, tag, shown)


@pytest.mark.parametrize(
    "text", ["", ":", "a:", ":b", "../x", "a/b", "a..b", ".a", "a.", "-a", "a b", "ü", "a" * 200, "a\0"]
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a model name"):
        ModelName.parse(text)


@given(st.text(max_size=40))
def test_parsed_names_are_safe_in_paths_and_parse_again(text: str) -> None:
    try:
        name = ModelName.parse(text)
    except UsageError:
        return
    assert ModelName.parse(str(name)) == name
    assert not set(str(name)) & set("/\\\0 ")
    assert ".." not in str(name)


def test_digest_parses_its_own_form_only() -> None:
    text = "sha256:" + "0a" * 32
    assert str(Digest.parse(text)) == text
    assert Digest.parse(text).short == "0a" * 6
    for wrong in ("0a" * 32, "sha256:" + "0A" * 32, "sha256:12", text + "\n"):
        with pytest.raises(UsageError):
            Digest.parse(wrong)
