import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.catalogue.expressions import AllOf, AnyOf, Term, parse_expression
from pantry.core.errors import UsageError

NAMES = {"mit": "mit", "apache-2.0": "apache-2.0", "gemma": "gemma-terms"}


def test_plain_name_is_found_by_alias_in_any_case() -> None:
    assert parse_expression("Gemma", NAMES) == Term("gemma-terms", True)
    assert parse_expression("LicenseRef-gemma", NAMES) == Term("gemma-terms", True)


def test_operators_and_brackets() -> None:
    tree = parse_expression("MIT AND (Apache-2.0 OR Foo-1.0)", NAMES)
    assert tree == AllOf((Term("mit", True), AnyOf((Term("apache-2.0", True), Term("Foo-1.0", False)))))


def test_exception_is_kept() -> None:
    tree = parse_expression("GPL-2.0-only WITH Classpath-exception-2.0", NAMES)
    assert tree == Term("GPL-2.0-only", False, "Classpath-exception-2.0")


@pytest.mark.parametrize("text", ["MIT OR", "MIT AND (Apache-2.0", "MIT Apache-2.0", "AND", "( )", "", " ", "x" * 2000])
def test_expression_that_does_not_parse_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="licence expression"):
        parse_expression(text, NAMES)


def test_mistake_is_shown_with_its_place() -> None:
    with pytest.raises(UsageError, match="character 5, at 'Apache'"):
        parse_expression("MIT Apache", NAMES)


@given(st.text(max_size=200))
def test_any_text_parses_or_is_refused_as_usage(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse_expression(text, NAMES)


@given(st.text(alphabet="MITANDOR() ", max_size=60))
def test_any_near_expression_parses_or_is_refused_as_usage(text: str) -> None:
    with contextlib.suppress(UsageError):
        parse_expression(text, NAMES)
