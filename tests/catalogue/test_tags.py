import pytest
from hypothesis import given
from hypothesis import strategies as st

from pantry.catalogue.tags import CLASSES, YearTag, parse_tag, satisfied, year_tag_by_size
from pantry.core.errors import UsageError

KNOWN = {"CODING", "CONVERSATIONAL", "LONG_CONTEXT"}
year_tags = st.builds(lambda year, level: f"{year}_{level}", st.integers(2018, 2030), st.sampled_from(CLASSES))


@pytest.mark.parametrize(
    ("held", "wanted", "answer"),
    [
        ("2023_MED", "2023_MED", True),
        ("2023_ADV", "2023_MED", True),  # a higher class of the year
        ("2025_MED", "2023_MED", True),  # a newer equal class
        ("2025_BASIC", "2023_MED", False),  # newer but weaker
        ("2022_ADV", "2023_MED", False),  # stronger but older
        ("2023_BASIC", "2023_MED", False),
        ("CODING", "2023_MED", False),
        ("CODING", "CODING", True),
        ("CONVERSATIONAL", "CODING", False),
    ],
)
def test_order_of_tags(held: str, wanted: str, answer: bool) -> None:
    assert satisfied(wanted, [held]) is answer


@given(year_tags, year_tags, year_tags)
def test_order_is_reflexive_and_transitive(a: str, b: str, c: str) -> None:
    assert satisfied(a, [a])
    if satisfied(b, [a]) and satisfied(c, [b]):
        assert satisfied(c, [a])


@given(year_tags, year_tags)
def test_two_different_tags_never_satisfy_each_other_both_ways(a: str, b: str) -> None:
    assert a == b or not (satisfied(a, [b]) and satisfied(b, [a]))


def test_any_of_the_held_tags_may_satisfy() -> None:
    assert satisfied("2023_MED", ["CODING", "2021_BASIC", "2024_MED"])
    assert not satisfied("2023_MED", [])


def test_tag_is_read_in_any_spelling() -> None:
    assert parse_tag(" long-context ", KNOWN) == "LONG_CONTEXT"
    assert parse_tag("2023_med", KNOWN) == "2023_MED"


def test_unknown_tag_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="CODING"):
        parse_tag("CODNG", KNOWN)


def test_year_tag_with_a_wrong_class_shows_how_year_tags_look() -> None:
    with pytest.raises(UsageError, match="2023_ADV"):
        parse_tag("2023_ADVANCED", KNOWN)


@pytest.mark.parametrize(
    ("parameters", "tag"),
    [
        (3_999_999_999, "2024_BASIC"),
        (4_000_000_000, "2024_MED"),
        (19_999_999_999, "2024_MED"),
        (20 * 10**9, "2024_ADV"),
    ],
)
def test_size_rule(parameters: int, tag: str) -> None:
    assert year_tag_by_size("2024-05", parameters) == tag


def test_size_rule_needs_date_and_size() -> None:
    assert year_tag_by_size(None, 1) is None
    assert year_tag_by_size("2024", None) is None


def test_year_tag_prints_as_it_was_read() -> None:
    assert str(YearTag.parse("2023_ADV")) == "2023_ADV"
